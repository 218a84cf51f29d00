"""Misbehaviour on command.

A fault is a JSON object: its `kind`, when it strikes, and the parameters of its kind.  KINDS below
is the manual; `--help` prints it.  A call meets its faults at five places, in this order:

    RECEIVE  the head of the request has come: how its body is read
    REFUSE   before anything is stored: the first fault that strikes is the answer
    RECORDS  single records fail inside a 200 answer
    REWRITE  the body of a good answer is changed; the records are stored
    DELIVER  how any answer leaves: late, slowly, cut, with other headers, not at all

A fault counts a call only when the call gets to the fault's place, so `skip` and `count` mean what
a test sees.  All chance comes from one seeded generator.
"""

import json
import random
import re
import textwrap
import threading
import time
from collections import Counter
from types import SimpleNamespace

from messages import ERROR_FORMS, Answer, Reading, Refused, ServiceError, error_answer
from server import HEADS
from tricks import AFTER_STORE, DELIVERERS, REWRITERS, REWRITE_FORMS

RECEIVE, REFUSE, RECORDS, REWRITE, DELIVER = range(5)

# Members every fault may have.
WHEN = {
    "operation": (str, None, "only calls of this operation (PutRecords, …); default: every call"),
    "stream": (str, None, "only calls to this stream (not for those that strike before the body "
                          "is read); default: to every stream"),
    "rate": (float, 1.0, "0..1: chance per call; for `partial` the chance per record"),
    "count": (int, None, "strikes so many calls, then it is gone"),
    "skip": (int, 0, "lets the first n calls pass"),
    "for_ms": (float, None, "is gone so long after it was set (for `down`: how long it is down)"),
}
PATTERN = (str, None, "regex searched in the records' data: only calls, or for `partial` records, "
                      "that match")

# kind: (place, what it does, {parameter: (type, default, meaning)})
KINDS = {
    "hang_up": (RECEIVE, "the connection ends while the request is read; nothing is stored", {
        "at": (float, 0.0, "fraction of the body that is read first"),
        "form": (str, "reset", "reset, close, or stall: stays open, and is never read again")}),
    "early_error": (RECEIVE, "an error answer before the body is read; the connection closes", {
        "status": (int, 503, "HTTP status"),
        "code": (str, "ServiceUnavailable", "the error's name"),
        "form": (str, "html", "body, as of `error`")}),
    "slow_read": (RECEIVE, "the body is read slowly", {
        "per_s": (float, 10000.0, "bytes a second")}),
    "too_large": (REFUSE, "413 with an empty body for bodies that are larger than that", {
        "bytes": (int, 100000, "of body, as it is on the wire")}),
    "redirect": (REFUSE, "elsewhere; nothing is stored", {
        "status": (int, 301, "HTTP status"),
        "location": (str, "/elsewhere", "the header Location")}),
    "error": (REFUSE, "the whole call fails, nothing is stored", {
        "status": (int, 500, "HTTP status"),
        "code": (str, "InternalFailure", "the error's name"),
        "message": (str, "Internal service failure.", "its message"),
        "form": (str, "json", "body: json, namespace (\"prefix#Name:address\"), garbled (a message "
                              "that is not UTF-8), xml, html, plain, array, empty, header (name "
                              "only in a header)"),
        "pattern": PATTERN}),
    "throttle": (REFUSE, "the whole call fails with a throttling error, nothing is stored", {
        "code": (str, None, "the error's name; default: the service's own"),
        "status": (int, None, "HTTP status; default: the service's own"),
        "pattern": PATTERN}),
    "expired_token": (REFUSE, "ExpiredTokenException, nothing is stored", {
        "status": (int, 400, "HTTP status")}),
    "reset_before_store": (REFUSE, "nothing is stored, connection reset, no answer", {
        "pattern": PATTERN}),
    "stall": (REFUSE, "nothing is stored, no answer, the connection stays open", {
        "pattern": PATTERN}),
    "down": (REFUSE, "port closed (connections refused) and live connections cut for for_ms, then "
                     "back on the same port. At once when set, unless operation, rate or skip say "
                     "which call triggers it; that call is not stored", {
        "count": (int, 1, "as above, but once by default")}),
    "partial": (RECORDS, "records fail inside a 200 answer", {
        "code": (str, None, "the records' ErrorCode; default: as the service throttles"),
        "message": (str, None, "their ErrorMessage; default: as the service words it"),
        "indexes": (list, None, "only these places in the request, from 0"),
        "key": (str, None, "regex searched in the partition key"),
        "shard": (int, None, "only records for this shard of the stream, from 0"),
        "pattern": PATTERN}),
    "garbage": (REWRITE, "stored; 200 with a body that cannot be read", {
        "form": (str, "binary", "binary, truncated (JSON that ends early), html, empty, trailing "
                                "(more behind the JSON), twice (the JSON, and again), array, null, "
                                "error (an error's body), nested (10,000 deep)")}),
    "wrong_count": (REWRITE, "stored; the answer has records too few or too many", {
        "delta": (int, -1, "how many more than sent; negative: fewer")}),
    "wrong_failed_count": (REWRITE, "stored; FailedRecordCount (FailedPutCount) lies", {
        "form": (str, "zero", "zero, one, missing, null, text")}),
    "no_entries": (REWRITE, "stored; the answer's list of records is not there", {
        "form": (str, "missing", "missing, null, empty, text, twice (two such members)")}),
    "empty_ids": (REWRITE, "stored; the records' sequence numbers (ids) are empty", {
        "form": (str, "empty", "empty, null, number")}),
    "two_faced": (REWRITE, "records that failed have a sequence number (id) as well", {}),
    "mute": (REWRITE, "records that failed have no ErrorCode, nor anything else", {}),
    "pad": (REWRITE, "stored; an unknown member fills the body", {
        "bytes": (int, 1 << 20, "to exactly so many, if it has less")}),
    "null_members": (REWRITE, "stored; members that say nothing are there as null, unknown ones "
                              "too", {}),
    "extra_members": (REWRITE, "stored; unknown members of every type between the known ones", {}),
    "slow": (DELIVER, "stored; then delay_ms of silence before the answer", {
        "delay_ms": (float, 1000.0, "milliseconds")}),
    "slow_body": (DELIVER, "stored; the body of the answer dribbles", {
        "chunk_bytes": (int, 16, "bytes at a time"),
        "pause_ms": (float, 20.0, "milliseconds between them"),
        "last_ms": (float, 0.0, "for so long, then the rest at once; 0: to the end")}),
    "hold": (DELIVER, "stored; answers are kept back and leave together", {
        "period_ms": (float, 1000.0, "so often")}),
    "cut": (DELIVER, "stored; the answer ends in the middle and the connection closes", {
        "at": (float, 0.5, "fraction of the body that is sent")}),
    "reset_after_store": (DELIVER, "stored; connection reset, no answer", {}),
    "close_after_store": (DELIVER, "stored; the connection closes, no answer", {}),
    "stall_after_store": (DELIVER, "stored; no answer, the connection stays open", {}),
    "retry_after": (DELIVER, "error answers have the header x-amz-retry-after", {
        "ms": (str, "100", "its value: milliseconds, or any nonsense"),
        "header": (str, "x-amz-retry-after", "another header with this value, as Retry-After, "
                                             "which takes seconds"),
        "date_s": (float, None, "instead of a number: the date so many seconds from now")}),
    "odd_status": (DELIVER, "stored; another status than 200, its body as it was", {
        "status": (int, 202, "HTTP status")}),
    "interim": (DELIVER, "an interim answer before the real one", {
        "status": (int, 100, "100, 102 or 103")}),
    "chunked": (DELIVER, "chunks with extensions, and a trailer, instead of a length", {
        "bytes": (int, 100, "of a chunk")}),
    "gzip": (DELIVER, "the body is compressed, though nobody said that it may be", {}),
    "http10": (DELIVER, "HTTP/1.0, and no length: the body ends with the connection", {}),
    "small_letters": (DELIVER, "the names of headers in small letters", {}),
    "repeat_headers": (DELIVER, "every header twice", {}),
    "content_type": (DELIVER, "another Content-Type, or none", {
        "value": (str, "", "its value; empty: none")}),
    "broken_head": (DELIVER, "stored; the head of the answer is broken", {
        "form": (str, "nonsense", ", ".join(HEADS))}),
    "wrong_date": (DELIVER, "the Date header lies", {
        "offset_s": (float, 3600.0, "by so many seconds")}),
    "close": (DELIVER, "Connection: close, and the connection closes after the answer", {}),
    "silent_close": (DELIVER, "the connection closes some time after the answer, unannounced", {
        "after_ms": (float, 0.0, "milliseconds")}),
}

FORMS = {"error": ERROR_FORMS, "early_error": ERROR_FORMS, "broken_head": HEADS,
         "hang_up": ("reset", "close", "stall"), **REWRITE_FORMS}

_MESSAGES = {
    "ProvisionedThroughputExceededException": "Rate exceeded for shard %s in stream %s under "
                                              "account %s.",
    "ServiceUnavailableException": "Slow down.",
    "InternalFailure": "Internal service failure.",
}


class BadFault(ValueError):
    """What was asked for is not a fault; the text says why."""


class Fault:
    def __init__(self, spec):
        if not isinstance(spec, dict):
            raise BadFault("a fault is a JSON object, not %s" % json.dumps(spec))
        kind = spec.get("kind")
        if kind not in KINDS:
            raise BadFault("unknown kind %s; one of: %s" % (json.dumps(kind), ", ".join(KINDS)))
        self.spec = spec
        self.kind = kind
        self.place, _, parameters = KINDS[kind]
        known = WHEN | parameters
        unknown = sorted(set(spec) - set(known) - {"kind"})
        if unknown:
            raise BadFault("fault %s does not know %s" % (kind, ", ".join(unknown)))
        self.values = {name: _typed(kind, name, spec.get(name), known[name]) for name in known}
        self.regex = self._regex("pattern")
        self.key = self._regex("key")
        self.calls = 0          # that came to its place
        self.fired = 0          # that it struck
        self.set_at = time.monotonic()
        if self.values.get("form") not in FORMS.get(kind, (None,)):
            raise BadFault("fault %s: unknown form %s" % (kind, json.dumps(self["form"])))

    def __getitem__(self, name):
        return self.values[name]

    def _regex(self, name):
        pattern = self.values.get(name)
        try:
            return None if pattern is None else re.compile(pattern.encode())
        except re.error as error:
            raise BadFault("fault %s: %s: %s" % (self.kind, name, error)) from None

    @property
    def immediate(self):
        """A `down` that waits for no call."""
        return self.kind == "down" and not set(self.spec) & {"operation", "rate", "skip"}

    @property
    def over(self):
        if self["count"] is not None and self.fired >= self["count"]:
            return True
        return (self["for_ms"] is not None and self.kind != "down"
                and time.monotonic() - self.set_at > self["for_ms"] / 1000)


def _typed(kind, name, value, row):
    wanted, default, _ = row
    if value is None:
        return default
    if wanted in (float, str) and isinstance(value, int) and not isinstance(value, bool):
        value = wanted(value)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise BadFault("fault %s: %s is a %s" % (kind, name, wanted.__name__))
    return value


class Faults:
    """The faults that are set, and the places where calls meet them.  Any thread may ask."""

    def __init__(self, seed=0):
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._list = []
        self.fired = Counter()          # by kind, of all faults ever set
        self.go_down = lambda seconds: None     # given by the server

    def replace(self, specs):
        """Sets the faults; returns seconds to be down at once, or 0.  Raises BadFault."""
        faults = [Fault(spec) for spec in (specs if isinstance(specs, list) else [specs])]
        down = [fault for fault in faults if fault.immediate]
        with self._lock:
            self._list = [fault for fault in faults if not fault.immediate]
            self.fired.update(fault.kind for fault in down)
        return max(((fault["for_ms"] or 1000.0) / 1000 for fault in down), default=0)

    def describe(self):
        return [fault.spec | {"calls": fault.calls, "fired": fault.fired} for fault in self._list]

    def reading(self, operation):
        """How the body of a call is read; None: politely."""
        for fault in self._strikes(RECEIVE, operation, None, lambda f: f["stream"] is None):
            if fault.kind == "slow_read":
                return Reading(fault.kind, per_s=fault["per_s"])
            if fault.kind == "hang_up":
                return Reading(fault.kind, fault["at"], fault["form"])
            answer = error_answer(ServiceError(fault["code"], "Try again.", fault["status"]),
                                  fault["form"])
            answer.manner.close = True
            return Reading(fault.kind, 0.0, "answer", answer=answer)
        return None

    def refusal(self, service, operation, request):
        """The answer that a call gets instead of being looked at, or None."""
        for fault in self._strikes(REFUSE, operation, request, lambda f: f.regex is None and (
                f.kind != "too_large" or len(request.body) > f["bytes"])):
            return self._refuse(fault, service)
        return None

    def doom(self, service, operation, stream, blobs, keys=None, hashes=None):
        """Which of a call's records fail: {place: (code, message or None)}.

        Raises Refused when a fault with a pattern refuses the whole call."""
        if not self._list:
            return {}
        for fault in self._strikes(REFUSE, operation, SimpleNamespace(stream=stream.name),
                                   lambda f: f.regex is not None
                                   and any(map(f.regex.search, blobs))):
            raise Refused(self._refuse(fault, service))
        doomed = {}
        with self._lock:
            for fault in self._list:
                if fault["stream"] in (None, stream.name) and self._due(fault, RECORDS, operation):
                    for place in self._struck(fault, stream, blobs, keys, hashes):
                        doomed.setdefault(place, (fault["code"] or service.words.throttled,
                                                  fault["message"]))
        return doomed

    def rewrite(self, service, operation, request, answer):
        """Changes the body of a good answer."""
        for fault in self._strikes(REWRITE, operation, request):
            answer.body = REWRITERS[fault.kind](fault, answer.body, service.words)

    def deliver(self, operation, request, answer):
        """Changes how an answer leaves.  What happens "after store" needs a good answer, and
        retry_after a bad one."""
        good = answer.status < 300
        if answer.manner.mute:
            return
        for fault in self._strikes(DELIVER, operation, request, lambda f: good
                                   if f.kind in AFTER_STORE
                                   else f.kind != "retry_after" or not good):
            DELIVERERS[fault.kind](fault, answer)

    def _due(self, fault, place, operation):
        """Whether the fault looks at this call at all; counts it if so.  Under the lock."""
        if fault.place != place or fault.over or fault["operation"] not in (None, operation):
            return False
        fault.calls += 1
        return fault.calls > fault["skip"]

    def _strikes(self, place, operation, request, fits=lambda fault: True):
        """The faults that strike a call at this place, one by one, each drawn when asked for.

        Of `request` only the name of its stream matters; None: not known yet."""
        for fault in list(self._list):
            if (fault.place != place or fault["stream"] not in (None, request and request.stream)
                    or not fits(fault)):
                continue
            with self._lock:
                if not (self._due(fault, place, operation)
                        and (fault["rate"] >= 1 or self._random.random() < fault["rate"])):
                    continue
                fault.fired += 1
                self.fired[fault.kind] += 1
            yield fault

    def _struck(self, fault, stream, blobs, keys, hashes):
        """The places of the records that fail; counts the fault if there are some.  Under the
        lock."""
        places = range(len(blobs)) if fault["indexes"] is None else fault["indexes"]
        struck = [i for i in places if isinstance(i, int) and 0 <= i < len(blobs)
                  and (fault.regex is None or fault.regex.search(blobs[i]))
                  and (fault.key is None or keys is not None and fault.key.search(keys[i]))
                  and (fault["shard"] is None or hashes is not None and hashes[i] is not None
                       and stream.shard_for(hashes[i]).index == fault["shard"])
                  and (fault["rate"] >= 1 or self._random.random() < fault["rate"])]
        if struck:
            fault.fired += 1
            self.fired[fault.kind] += 1
        return struck

    def _refuse(self, fault, service):
        if fault.kind == "error":
            return error_answer(ServiceError(fault["code"], fault["message"], fault["status"]),
                                fault["form"])
        if fault.kind == "throttle":
            words = service.words
            return error_answer(ServiceError(fault["code"] or words.throttled, "Rate exceeded.",
                                             fault["status"] or words.throttled_status), "json")
        if fault.kind == "expired_token":
            return error_answer(ServiceError(
                "ExpiredTokenException", "The security token included in the request is expired",
                fault["status"]), "json")
        if fault.kind == "too_large":
            return Answer(413, outcome="413")
        if fault.kind == "redirect":
            return Answer(fault["status"], b"<html>Moved</html>", "text/html",
                          [("Location", fault["location"])], outcome=fault.kind)
        answer = Answer(outcome=fault.kind)
        answer.manner.stall = fault.kind == "stall"
        answer.manner.reset = not answer.manner.stall
        if fault.kind == "down":
            self.go_down((fault["for_ms"] or 1000.0) / 1000)
        return answer


def record_message(code, message, shard, stream, account):
    """The ErrorMessage of one failed record, in the service's words unless the fault has some."""
    if message is not None:
        return message
    text = _MESSAGES.get(code, code)
    return text % (shard, stream, account) if "%s" in text else text


def manual():
    """The text of --help about faults, from the tables above."""
    lines = ["every fault:", *_rows(WHEN)]
    for kind, (_, what, parameters) in KINDS.items():
        lines.append(textwrap.fill("%s: %s" % (kind, what), 96, subsequent_indent="  "))
        lines += _rows(parameters)
    return "\n".join(lines)


def _rows(parameters):
    for name, (_, default, meaning) in parameters.items():
        told = "" if default is None else " [%s]" % default
        yield textwrap.fill("%-12s %s%s" % (name, meaning, told), 96, initial_indent=" " * 4,
                            subsequent_indent=" " * 17)
