"""Misbehaviour on command.

A fault is a JSON object: its `kind`, when it strikes, and the parameters of its kind.  KINDS below
is the manual; `--help` prints it.  A call meets its faults at four places, in this order:

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

from messages import ERROR_FORMS, Answer, Refused, ServiceError, error_answer

REFUSE, RECORDS, REWRITE, DELIVER = range(4)

# Members every fault may have.
WHEN = {
    "operation": (str, None, "only calls of this operation (PutRecords, …); default: every call"),
    "rate": (float, 1.0, "0..1: chance per call; for `partial` the chance per record"),
    "count": (int, None, "strikes so many calls, then it is gone"),
    "skip": (int, 0, "lets the first n calls pass"),
    "for_ms": (float, None, "is gone so long after it was set (for `down`: how long it is down)"),
}
PATTERN = (str, None, "regex searched in the records' data: only calls, or for `partial` records, "
                      "that match")

# kind: (place, what it does, {parameter: (type, default, meaning)})
KINDS = {
    "error": (REFUSE, "the whole call fails, nothing is stored", {
        "status": (int, 500, "HTTP status"),
        "code": (str, "InternalFailure", "the error's name"),
        "message": (str, "Internal service failure.", "its message"),
        "form": (str, "json", "body: json, xml, html, empty, header (name only in a header)"),
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
        "pattern": PATTERN}),
    "garbage": (REWRITE, "stored; 200 with a body that cannot be read", {
        "form": (str, "binary", "binary, truncated (JSON that ends early), html, empty")}),
    "wrong_count": (REWRITE, "stored; the answer has records too few or too many", {
        "delta": (int, -1, "how many more than sent; negative: fewer")}),
    "null_members": (REWRITE, "stored; members that say nothing are there as null, unknown ones "
                              "too", {}),
    "extra_members": (REWRITE, "stored; unknown members of every type between the known ones", {}),
    "slow": (DELIVER, "stored; then delay_ms of silence before the answer", {
        "delay_ms": (float, 1000.0, "milliseconds")}),
    "slow_body": (DELIVER, "stored; the body of the answer dribbles", {
        "chunk_bytes": (int, 16, "bytes at a time"),
        "pause_ms": (float, 20.0, "milliseconds between them")}),
    "cut": (DELIVER, "stored; the answer ends in the middle and the connection closes", {
        "at": (float, 0.5, "fraction of the body that is sent")}),
    "reset_after_store": (DELIVER, "stored; connection reset, no answer", {}),
    "stall_after_store": (DELIVER, "stored; no answer, the connection stays open", {}),
    "retry_after": (DELIVER, "error answers have the header x-amz-retry-after", {
        "ms": (str, "100", "its value: milliseconds, or any nonsense")}),
    "wrong_date": (DELIVER, "the Date header lies", {
        "offset_s": (float, 3600.0, "by so many seconds")}),
    "close": (DELIVER, "Connection: close, and the connection closes after the answer", {}),
}

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
        self.regex = self._regex()
        self.calls = 0          # that came to its place
        self.fired = 0          # that it struck
        self.set_at = time.monotonic()
        if self.values.get("form") not in (None, "binary", "truncated", *ERROR_FORMS):
            raise BadFault("fault %s: unknown form %s" % (kind, json.dumps(self["form"])))

    def __getitem__(self, name):
        return self.values[name]

    def _regex(self):
        pattern = self.values.get("pattern")
        try:
            return None if pattern is None else re.compile(pattern.encode())
        except re.error as error:
            raise BadFault("fault %s: pattern: %s" % (self.kind, error)) from None

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

    def refusal(self, service, operation):
        """The answer that a call gets instead of being looked at, or None."""
        for fault in self._strikes(REFUSE, operation, lambda f: f.regex is None):
            return self._refuse(fault, service)
        return None

    def doom(self, service, operation, blobs):
        """Which of a call's records fail: {place: (code, message or None)}.

        Raises Refused when a fault with a pattern refuses the whole call."""
        if not self._list:
            return {}
        for fault in self._strikes(REFUSE, operation, lambda f: f.regex is not None
                                   and any(map(f.regex.search, blobs))):
            raise Refused(self._refuse(fault, service))
        doomed = {}
        with self._lock:
            for fault in self._list:
                if self._due(fault, RECORDS, operation):
                    self._doom(fault, service.words, blobs, doomed)
        return doomed

    def rewrite(self, service, operation, answer):
        """Changes the body of a good answer."""
        for fault in self._strikes(REWRITE, operation):
            answer.body = REWRITERS[fault.kind](fault, answer.body, service.words)

    def deliver(self, operation, answer):
        """Changes how an answer leaves.  What happens "after store" needs a good answer, and
        retry_after a bad one."""
        good = answer.status < 400
        if answer.manner.reset or answer.manner.stall:
            return
        for fault in self._strikes(DELIVER, operation, lambda f: good
                                   if f.kind in ("cut", "reset_after_store", "stall_after_store")
                                   else f.kind != "retry_after" or not good):
            DELIVERERS[fault.kind](fault, answer)

    def _due(self, fault, place, operation):
        """Whether the fault looks at this call at all; counts it if so.  Under the lock."""
        if fault.place != place or fault.over or fault["operation"] not in (None, operation):
            return False
        fault.calls += 1
        return fault.calls > fault["skip"]

    def _strikes(self, place, operation, fits=lambda fault: True):
        """The faults that strike a call at this place, one by one, each drawn when asked for."""
        for fault in list(self._list):
            with self._lock:
                if not (fits(fault) and self._due(fault, place, operation)
                        and (fault["rate"] >= 1 or self._random.random() < fault["rate"])):
                    continue
                fault.fired += 1
                self.fired[fault.kind] += 1
            yield fault

    def _doom(self, fault, words, blobs, doomed):
        places = range(len(blobs)) if fault["indexes"] is None else fault["indexes"]
        struck = [i for i in places if isinstance(i, int) and 0 <= i < len(blobs)
                  and (fault.regex is None or fault.regex.search(blobs[i]))
                  and (fault["rate"] >= 1 or self._random.random() < fault["rate"])]
        if struck:
            fault.fired += 1
            self.fired[fault.kind] += 1
            for place in struck:
                doomed.setdefault(place, (fault["code"] or words.throttled, fault["message"]))

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


# --- REWRITE -------------------------------------------------------------------------------------

def _garbage(fault, body, words):
    return {"binary": b"\x00\xff\xfe{]\x80 not what you asked for",
            "truncated": body[:max(1, len(body) * 2 // 3)],
            "html": b"<html><body>Welcome to the captive portal</body></html>",
            "empty": b""}[fault["form"]]


def _wrong_count(fault, body, words):
    members = json.loads(body)
    records = members.get(words.entries)
    if isinstance(records, list):
        wanted = max(0, len(records) + fault["delta"])
        members[words.entries] = (records + records[-1:] * wanted)[:wanted]
    return json.dumps(members).encode()


def _null_members(_, body, words):
    members = json.loads(body)
    members |= {name: None for name in (words.failed_count, "EncryptionType", "Surprise")
                if not members.get(name)}
    for record in members.get(words.entries) or []:
        for name in (words.record_id, "ShardId", "ErrorCode", "ErrorMessage", "Surprise"):
            record.setdefault(name, None)
    return json.dumps(members).encode()


_SURPRISES = {"": "", "A-Surprise": {"Records": [{"ErrorCode": "no", "deep": [[[{}]]]}],
                                     "RequestResponses": [{"ErrorCode": "no"}]},
              "Number": -1.5e300, "Truth": True, "Text": "\\\"\u2028\u00e9\U0001f600\x01]}"}


def _extra_members(_, body, words):
    members = json.loads(body)
    for record in members.get(words.entries) or []:
        known = dict(record)
        record.clear()
        record.update(_SURPRISES | known | {"Z-Surprise": [None, {"ShardId": "x"}]})
    return json.dumps(_SURPRISES | members | {"Z-Surprise": []}).encode()


REWRITERS = {"garbage": _garbage, "wrong_count": _wrong_count, "null_members": _null_members,
             "extra_members": _extra_members}


# --- DELIVER -------------------------------------------------------------------------------------

def _slow(fault, answer):
    answer.manner.delay_ms += fault["delay_ms"]


def _slow_body(fault, answer):
    answer.manner.chunk_bytes = max(1, fault["chunk_bytes"])
    answer.manner.pause_ms = fault["pause_ms"]


def _cut(fault, answer):
    answer.manner.cut_at = fault["at"]


def _reset_after_store(_, answer):
    answer.manner.reset = True


def _stall_after_store(_, answer):
    answer.manner.stall = True


def _retry_after(fault, answer):
    answer.headers.append(("x-amz-retry-after", fault["ms"]))


def _wrong_date(fault, answer):
    answer.date_offset = fault["offset_s"]


def _close(_, answer):
    answer.manner.close = True


DELIVERERS = {"slow": _slow, "slow_body": _slow_body, "cut": _cut,
              "reset_after_store": _reset_after_store, "stall_after_store": _stall_after_store,
              "retry_after": _retry_after, "wrong_date": _wrong_date, "close": _close}


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
