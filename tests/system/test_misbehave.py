"""Whatever the service does: nothing is lost, nothing is taken for delivered that is not.

STORIES is the table.  Each story runs for Kinesis and for Firehose: the agent follows a file of
numbered lines while the endpoint misbehaves as the story says; then it behaves again (but for
stories of poison, which stays), and everything must have arrived.  While it misbehaves the agent's
own checkpoint is held against what was stored, and its requests are counted.

The stories wait most of their time, so all that were selected run at once, a dozen at a time, in
threads of their own; a test only fetches what became of its story.
"""
import base64
import concurrent.futures
import contextlib
import json
import os
import pathlib
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, field

import pytest

from harness import BINARY, KEY_ID, PATIENCE, SECRET, SEED, Agent, Endpoint, Quill, eventually, flow
from oracle import Oracle, line

AT_ONCE = 16
BATCH = 100                     # records in a request
IN_FLIGHT = 4                   # requests
FIRST, MEANWHILE, LAST = 1200, 400, 100     # lines written before, while it misbehaves, after
QUESTIONS = 6                   # requests that send no records, while it misbehaves
FEW = 10                        # dead letters, where one cannot know better
POISON = (333, 777)             # line numbers
POISONED = "^r (333|777) "
MEMORY = 40 << 20               # of the agent, at most
SERVICES = {"kinesis": {"stream": "s1"}, "firehose": {"delivery_stream": "d1"}}


@dataclass
class Story:
    """What the service does, in one sentence, and what that may cost."""
    sentence: str
    faults: list = field(default_factory=list)
    stored: int = 0             # calls that a strike stores without a good answer: they come twice
    seconds: float = 3.0        # so long
    requests: int = 40          # at most, in this time; in proportion more if it took longer
    dead: object = ()           # lines that become dead letters: their numbers, or "few": up to FEW
    long: bool = False          # takes half a minute to be noticed
    do: object = None           # do(world), instead of faults
    undo: object = None
    only: str = ""              # for this service only


def fault(kind, **more):
    return {"kind": kind, **more}


def refusal(status, code="", form="json", **more):
    return [fault("error", status=status, code=code, form=form, **more)]


def failing(*faults, **more):
    """With some of the records failing, so that the answer matters."""
    return [fault("partial", rate=0.3, **more), *faults]


def story(sentence, *faults, **more):
    return Story(sentence, list(faults), **more)


def unclear(sentence, *faults, **more):
    """The answer does not say which records are stored; most of them are, and some are not."""
    return story(sentence, *failing(*faults), **{"stored": 1, **more})


# -- things a fault cannot do --------------------------------------------------------------------

def budget(world, **limits):
    world.call("POST", "budgets" if world.service == "kinesis" else "delivery_budgets", limits)


def few_records(world):
    name = "shard_records" if world.service == "kinesis" else "stream_records"
    budget(world, **{name: 50 if world.service == "kinesis" else 200})


def few_bytes(world):
    name = "shard_bytes" if world.service == "kinesis" else "stream_bytes"
    budget(world, **{name: 8000 if world.service == "kinesis" else 32000})


def hot_shard(world):
    budget(world, stream="s1", shard=1, shard_records=10)


def cool_shard(world):
    budget(world, stream="s1", shard=1)


def streams(world):
    return ("streams", "s1") if world.service == "kinesis" else ("delivery_streams", "d1")


def delete_stream(world):
    kind, name = streams(world)
    world.call("DELETE", f"{kind}?name={name}")


def make_stream(world):
    kind, name = streams(world)
    world.call("POST", kind, {"name": name})


def key(world, **more):
    world.call("POST", "keys", {"id": KEY_ID, "secret": SECRET, **more})


def clock(seconds):
    return lambda world: world.call("POST", "clock", {"offset_s": seconds})


# -- the table -----------------------------------------------------------------------------------

STORIES = {
    # single records
    "third-throttled": story("a third of the records is throttled", fault("partial", rate=0.33),
                             requests=120),
    "all-throttled": story("every record is throttled, in a 200", fault("partial")),
    "all-failed": story("every record fails internally, in a 200",
                        fault("partial", code="InternalFailure")),
    "half-failed": story("half of the records fail internally",
                         fault("partial", code="InternalFailure", rate=0.5), requests=120),
    "one-in-a-hundred": story("one record in a hundred fails",
                              fault("partial", rate=0.01), requests=80),
    "one-key": story("the records of some keys are throttled, all the time",
                     fault("partial", key="[0-7]$"), only="kinesis", requests=120),
    "hot-shard": story("one shard of four throttles everything",
                       fault("partial", shard=1), only="kinesis", requests=120),
    "hot-budget": story("one shard of four takes ten records a second", do=hot_shard,
                        undo=cool_shard, only="kinesis", requests=120),
    "few-records": story("the stream takes 200 records a second", do=few_records, undo=budget,
                         requests=120),
    "few-bytes": story("the stream takes 32 kB a second", do=few_bytes, undo=budget, requests=120),
    "odd-code": story("a third of the records fails with a code that nobody knows",
                      fault("partial", code="TeapotException", rate=0.33), dead="few",
                      requests=120),
    "two-faced": story("records that failed have a sequence number as well",
                       *failing(fault("two_faced")), requests=120),
    "mute": story("records that failed say nothing: no code, no sequence number",
                  *failing(fault("mute")), requests=120),
    "mute-nulls": story("the same, with nulls", *failing(fault("mute"), fault("null_members")),
                        requests=120),
    "failed-one-place": story("the first and the last record of every call fail",
                              fault("partial", indexes=[0, 99]), requests=120),
    # what the answer says
    "nulls": story("members that say nothing are there, as null", *failing(fault("null_members")),
                   requests=120),
    "surprises": story("unknown members of every type", *failing(fault("extra_members")),
                       requests=120),
    "count-zero": story("the count of failed records is 0 and some failed",
                        *failing(fault("wrong_failed_count")), requests=120),
    "count-missing": story("the count of failed records is missing and some failed",
                           *failing(fault("wrong_failed_count", form="missing")), requests=120),
    "count-null": story("the count of failed records is null and some failed",
                        *failing(fault("wrong_failed_count", form="null")), requests=120),
    "count-text": story("the count of failed records is a text and some failed",
                        *failing(fault("wrong_failed_count", form="text")), requests=120),
    "count-one": story("the count of failed records is 1 and none failed",
                       fault("wrong_failed_count", form="one")),
    "no-list": unclear("the list of records is missing", fault("no_entries")),
    "null-list": unclear("the list of records is null", fault("no_entries", form="null")),
    "empty-list": unclear("the list of records is empty", fault("no_entries", form="empty")),
    "text-list": unclear("the list of records is a text", fault("no_entries", form="text")),
    "two-lists": unclear("the list of records is there twice", fault("no_entries", form="twice")),
    "empty-ids": unclear("sequence numbers are empty", fault("empty_ids")),
    "null-ids": unclear("sequence numbers are null", fault("empty_ids", form="null")),
    "number-ids": unclear("sequence numbers are numbers", fault("empty_ids", form="number")),
    "too-few": unclear("one answer too few", fault("wrong_count", delta=-1)),
    "too-many": unclear("one answer too many", fault("wrong_count", delta=1)),
    "none": unclear("a hundred answers too few", fault("wrong_count", delta=-100)),
    "cut-json": unclear("the JSON ends in the middle", fault("garbage", form="truncated")),
    "empty": unclear("200 with an empty body", fault("garbage", form="empty")),
    "html": unclear("200 with a page of HTML", fault("garbage", form="html")),
    "binary": unclear("200 with bytes", fault("garbage")),
    "trailing": unclear("more behind the JSON", fault("garbage", form="trailing")),
    "twice": unclear("the JSON, and once more", fault("garbage", form="twice")),
    "array": unclear("the JSON is an array", fault("garbage", form="array")),
    "null": unclear("the JSON is null", fault("garbage", form="null")),
    "error-in-200": unclear("an error's body in a 200", fault("garbage", form="error")),
    "nested": unclear("an unknown member is 10,000 deep", fault("garbage", form="nested")),
    "exactly-1-MiB": story("an answer of exactly 1 MiB", fault("pad", bytes=1 << 20)),
    "over-1-MiB": unclear("an answer of 1 MiB and a byte", fault("pad", bytes=(1 << 20) + 1)),
    "8-MiB": unclear("an answer of 8 MiB", fault("pad", bytes=8 << 20)),
    # when the answer comes
    "slow": story("a second of silence before each answer", fault("slow", delay_ms=1000)),
    "byte-a-second": story("the answer dribbles, a byte a second",
                           fault("slow_body", chunk_bytes=1, pause_ms=1000), stored=1,
                           long=True),
    "dribble": story("the answer dribbles for a second",
                     fault("slow_body", chunk_bytes=10, pause_ms=50, last_ms=1000)),
    "bursts": story("answers are held back for a second and leave together",
                    fault("hold", period_ms=1000)),
    "slow-read": story("requests are read at 20 kB a second", fault("slow_read", per_s=20000)),
    # the connection
    "reset-at-head": story("reset before the body is read", fault("hang_up")),
    "reset-in-body": story("reset in the middle of the body", fault("hang_up", at=0.5)),
    "close-in-body": story("closed in the middle of the body", fault("hang_up", at=0.5,
                                                                     form="close")),
    "deaf": story("takes the connection and never reads", fault("hang_up", form="stall"),
                  long=True),
    "reset-before-store": story("reset without an answer", fault("reset_before_store")),
    "reset-after-store": story("stored, then reset without an answer", fault("reset_after_store"),
                               stored=1),
    "close-after-store": story("stored, then closed without an answer",
                               fault("close_after_store"), stored=1),
    "half-open": story("never answers", fault("stall"), long=True),
    "half-open-after-store": story("stored, and never answers", fault("stall_after_store"),
                                   stored=1, long=True),
    "cut-at-once": unclear("the answer ends behind its head", fault("cut", at=0.0)),
    "cut": unclear("the answer ends in the middle", fault("cut")),
    "down": story("connections are refused", fault("down", for_ms=2500)),
    "down-often": story("every fifth call finds the port closed for a while",
                        fault("down", skip=4, count=3, for_ms=400), stored=IN_FLIGHT),
    "close-each": story("the connection closes after every answer", fault("close")),
    "silent-close": story("the connection closes after every answer, unannounced",
                          fault("silent_close")),
    "late-close": story("idle connections close after 50 ms", fault("silent_close", after_ms=50)),
    # a proxy, a load balancer
    "500-json": story("500", *refusal(500, "InternalFailure")),
    "500-html": story("500 with HTML", *refusal(500, "InternalFailure", "html")),
    "500-empty": story("500 with nothing", *refusal(500, "InternalFailure", "empty")),
    "502-html": story("502 with HTML", *refusal(502, "Bad Gateway", "html")),
    "503-html": story("503 with HTML", *refusal(503, "Service Unavailable", "html")),
    "503-empty": story("503 with nothing", *refusal(503, "x", "empty")),
    "503-json": story("503 ServiceUnavailableException",
                      *refusal(503, "ServiceUnavailableException")),
    "504-html": story("504 with HTML", *refusal(504, "Gateway Timeout", "html")),
    "504-plain": story("504 with a text", *refusal(504, "upstream request timeout", "plain")),
    "200-with-error": story("200, and an error in it; nothing is stored",
                            *refusal(200, "InternalFailure")),
    "200-html": story("200 with HTML; nothing is stored", *refusal(200, "Welcome", "html")),
    "200-empty": story("200 with nothing; nothing is stored", *refusal(200, "x", "empty")),
    "202-nothing": story("202; nothing is stored", *refusal(202, "Accepted", "empty")),
    "202": unclear("202 instead of 200", fault("odd_status", status=202)),
    "204": unclear("204 instead of 200", fault("odd_status", status=204)),
    "206": unclear("206 instead of 200", fault("odd_status", status=206)),
    "400-empty": story("400 with nothing", *refusal(400, "x", "empty"), requests=60),
    "400-html": story("400 with HTML", *refusal(400, "Bad Request", "html"), requests=60),
    "403-html": story("403 with HTML: a firewall's page", *refusal(403, "Forbidden", "html")),
    "404-html": story("404 with HTML", *refusal(404, "Not Found", "html"), requests=60),
    "407-html": story("407 with HTML: a proxy wants a password",
                      *refusal(407, "Proxy Authentication Required", "html"), requests=60),
    "408-empty": story("408 with nothing", *refusal(408, "x", "empty")),
    "413-large": story("413 with nothing, for bodies of more than 10 kB",
                       fault("too_large", bytes=10000), requests=150),
    "413-early": story("413 before the body is read",
                       fault("early_error", status=413, form="empty"), dead="few", requests=60),
    "429-empty": story("429 with nothing", *refusal(429, "x", "empty")),
    "503-early": story("503 before the body is read", fault("early_error")),
    "301": story("301 to elsewhere", fault("redirect", status=301)),
    "302": story("302 to elsewhere", fault("redirect", status=302)),
    "307": story("307 to elsewhere", fault("redirect", status=307)),
    "retry-after": story("503, Retry-After: 3", *refusal(503, "x", "empty"),
                         fault("retry_after", header="Retry-After", ms="3"), requests=5),
    "retry-after-date": story("503, Retry-After: a date, some seconds from now",
                              *refusal(503, "x", "html"),
                              fault("retry_after", header="Retry-After", date_s=5), requests=5),
    "retry-after-amz": story("503, x-amz-retry-after: 3000", *refusal(503, "ServiceUnavailable"),
                             fault("retry_after", ms="3000"), requests=5),
    "retry-after-nonsense": story("503, and nonsense as Retry-After",
                                  *refusal(503, "ServiceUnavailable"),
                                  fault("retry_after", ms="-1e99"),
                                  fault("retry_after", header="Retry-After", ms="tomorrow")),
    # errors of the whole call
    "throttled": story("the call is throttled, as the service says it", fault("throttle")),
    "throttling-400": story("400 ThrottlingException", *refusal(400, "ThrottlingException")),
    "limit-400": story("400 LimitExceededException", *refusal(400, "LimitExceededException")),
    "kms-throttling": story("400 KMSThrottlingException",
                            *refusal(400, "KMSThrottlingException")),
    "kms-disabled": story("400 KMSDisabledException", *refusal(400, "KMSDisabledException")),
    "kms-denied": story("400 KMSAccessDeniedException",
                        *refusal(400, "KMSAccessDeniedException")),
    "kms-state": story("400 KMSInvalidStateException",
                       *refusal(400, "KMSInvalidStateException")),
    "kms-resource": story("400 InvalidKMSResourceException",
                          *refusal(400, "InvalidKMSResourceException"), only="firehose",
                          requests=60),
    "bad-source": story("400 InvalidSourceException", *refusal(400, "InvalidSourceException"),
                        only="firehose", requests=60),
    "access-denied": story("400 AccessDeniedException", *refusal(400, "AccessDeniedException")),
    "access-denied-xml": story("403 AccessDenied in XML", *refusal(403, "AccessDenied", "xml")),
    "no-stream": story("400 ResourceNotFoundException",
                       *refusal(400, "ResourceNotFoundException")),
    "in-use": story("400 ResourceInUseException", *refusal(400, "ResourceInUseException")),
    "expired-token": story("400 ExpiredTokenException", fault("expired_token")),
    "expired-key": story("the access key has expired, and is renewed",
                         do=lambda world: key(world, expired=True), undo=key),
    "unknown-key": story("the access key is not known, for a while",
                         do=lambda world: world.call("DELETE", f"keys?id={KEY_ID}"), undo=key),
    "other-secret": story("the signature does not match",
                          do=lambda world: key(world, secret="changed"),
                          undo=lambda world: world.call("POST", "keys", {
                              "id": KEY_ID, "secret": SECRET})),
    "clock-ahead": story("the service's clock is two hours ahead", do=clock(7200), undo=clock(0)),
    "clock-behind": story("the service's clock is two hours behind", do=clock(-7200),
                          undo=clock(0)),
    "wrong-date": story("the header Date lies", fault("wrong_date", offset_s=-86400)),
    "deleted": story("the stream is deleted, and made again", do=delete_stream, undo=make_stream),
    "namespace": story("the code has a prefix and an address",
                       *refusal(500, "InternalFailure", "namespace")),
    "code-in-header": story("the code stands in a header only",
                            *refusal(400, "ProvisionedThroughputExceededException", "header")),
    "garbled": story("the message is no UTF-8, and would clear a terminal",
                     *refusal(500, "InternalFailure", "garbled", message="50%s %n")),
    "xml": story("the error is XML", *refusal(500, "InternalFailure", "xml")),
    "error-array": story("the error is a JSON array", *refusal(500, "InternalFailure", "array")),
    "unknown-code": story("400 with a code that nobody knows", *refusal(400, "TeapotException"),
                          dead="few", requests=60),
    "all-invalid": story("400 ValidationException, whatever is sent",
                         *refusal(400, "ValidationException"), dead="few", requests=60),
    # how the answer looks
    "continue": story("100 before each answer", fault("interim")),
    "early-hints": story("103 before each answer", fault("interim", status=103)),
    "chunked": story("chunks with extensions and a trailer", fault("chunked")),
    "gzip": unclear("compressed, though nobody asked for it", fault("gzip")),
    "http10": story("HTTP/1.0 without a length", fault("http10")),
    "small-letters": story("headers in small letters", fault("small_letters")),
    "twice-headers": unclear("every header twice", fault("repeat_headers"), requests=120),
    "no-type": story("no Content-Type", fault("content_type")),
    "other-type": story("Content-Type: text/html", fault("content_type", value="text/html")),
    **{f"head-{form}": unclear(f"the head of the answer is broken: {form}",
                             fault("broken_head", form=form), requests=120)
       for form in ("nonsense", "huge", "many", "no_colon", "long", "short", "negative",
                    "two_lengths", "no_status", "zeros")},
    # poison: it stays
    "poison": story("ValidationException, as long as two certain records are in the call",
                    fault("error", status=400, code="ValidationException", pattern=POISONED),
                    dead=POISON, requests=150),
    "poison-serial": story("SerializationException, as long as two certain records are in the "
                           "call", fault("error", status=400, code="SerializationException",
                                         pattern=POISONED), dead=POISON, requests=150),
    "poison-record": story("two certain records fail with InvalidArgumentException, in a 200",
                           fault("partial", code="InvalidArgumentException", pattern=POISONED),
                           dead=POISON, requests=150),
    "poison-in-trouble": story("poison, and a third of all calls fails otherwise",
                               fault("error", status=400, code="InvalidArgumentException",
                                     pattern=POISONED), fault("error", status=500, rate=0.3),
                               dead=POISON, requests=150),
    # everything
    "storm": story("a bit of everything",
                   fault("error", rate=0.1), fault("throttle", rate=0.1),
                   fault("reset_after_store", rate=0.05), fault("hang_up", rate=0.05),
                   fault("garbage", form="truncated", rate=0.05), fault("wrong_count", rate=0.05),
                   fault("close", rate=0.2), fault("cut", rate=0.05),
                   fault("slow", delay_ms=200, rate=0.2), fault("partial", rate=0.2),
                   fault("null_members", rate=0.3), fault("chunked", rate=0.2), stored=1,
                   seconds=6.0, requests=120),
}


# -- one story -----------------------------------------------------------------------------------

class Lines(Oracle):
    """Firehose's records have a newline each."""

    def __init__(self, record_file, newline):
        super().__init__(record_file)
        self.newline = newline

    def judge(self, record):
        if self.newline and not record.endswith(b"\n"):
            return self._tear(record)
        return super().judge(record[:-1] if self.newline else record)


class World:
    """An agent and an endpoint of its own."""

    def __init__(self, name, service):
        self.story = STORIES[name]
        self.longer = 1.0               # it misbehaved so much longer: the machine is busy
        self.service = service
        self.place = pathlib.Path(tempfile.mkdtemp(prefix=f"kinetail-{name}-"))
        self.place.chmod(0o755)
        (self.place / "logs").mkdir()
        seed = random.Random(f"{SEED}/{name}/{service}").randrange(1 << 30)
        self.endpoint = Endpoint(self.place, streams=["s1:4"], arguments=[
            "--delivery-stream", "d1", "--seed", str(seed)])
        self.call = self.endpoint.call
        self.oracle = Lines(self.endpoint.record_file, service == "firehose")
        self.quill = Quill(self.place / "logs" / "app.log", self.oracle, "r")
        self.agent = Agent(self.place, self.endpoint)
        self.agent.configure(flow(self.place / "logs" / "*.log", records=BATCH,
                                  in_flight=IN_FLIGHT,
                                  **SERVICES[service]))

    def close(self):
        self.quill.close()
        self.agent.abandon()
        self.endpoint.stop()

    # what is so

    def settled(self):
        """How many lines the agent's own checkpoint takes for dealt with."""
        done = self.agent.run("-c", self.agent.config_file, "checkpoint", "list", "--json")
        for one in done.stdout.splitlines():
            told = json.loads(one)
            with open(self.quill.path, "rb") as file:
                return file.read(told["offset"]).count(b"\n")
        return 0

    def letters(self):
        """The numbers of the lines that are dead letters."""
        found = set()
        for path in (self.agent.state_dir / "dead").glob("*/dead-*.log"):
            for one in path.read_bytes().splitlines()[1:]:
                with contextlib.suppress(ValueError):       # being written just now
                    data = base64.b64decode(json.loads(one)["record_base64"])
                    found.add(int(data.split(b" ", 2)[1]))
        return found

    def missing(self, count):
        """Which of the first `count` lines have not arrived."""
        self.oracle.poll()
        return {n for n in self.oracle.missing().get(b"r", []) if n < count}

    def spooled(self):
        """The bytes of the spool: records stand in them as they are."""
        found = []
        for path in (self.agent.state_dir / "spool").rglob("*"):
            with contextlib.suppress(OSError):      # a directory; or delivered and gone, just now
                found.append(path.read_bytes())
        return b"".join(found)

    def probe(self):
        """No line is taken for dealt with that is nowhere: neither stored, nor spooled, nor a dead
        letter.  One asks in the order in which lines move: what is not there yet comes later."""
        self.agent.alive()
        count, spooled = self.settled(), self.spooled()
        lost = {n for n in self.missing(count) - self.letters()
                if line(b"r", n) not in spooled}
        assert not lost, f"{len(lost)} of {count} settled lines are nowhere: {sorted(lost)[:9]}"

    def tell(self, method, path, body=None):
        """A control call that gets through even if the port was just closed."""
        def call():
            with contextlib.suppress(OSError):
                return self.call(method, path, body) or b"{}"
        return eventually(call, 30, step=0.1, what=f"{method} {path}")

    # what happens

    def run(self):
        story = self.story
        if story.do is not None:
            story.do(self)
        self.tell("POST", "faults", story.faults)
        self.quill.write(FIRST)
        self.agent.start()
        began = time.monotonic()
        while time.monotonic() < began + story.seconds:
            if self.quill.count < FIRST + MEANWHILE:
                self.quill.write(MEANWHILE // 4)
            time.sleep(story.seconds / 6)
            self.probe()
        stats = json.loads(self.tell("GET", "stats"))
        self.longer = max(1.0, (time.monotonic() - began) / story.seconds)
        if story.undo is not None:
            story.undo(self)
        if not isinstance(story.dead, tuple) or not story.dead:
            self.tell("DELETE", "faults")
        self.quill.write(LAST)
        self.wait()
        self.probe()
        self.agent.alive()
        peak = self.agent.memory("VmHWM")
        self.agent.terminate()
        self.judge(stats, peak)
        return stats, peak, time.monotonic() - began

    def wait(self):
        dead = self.story.dead

        def over():
            missing = self.missing(self.quill.count)
            return missing <= self.letters() if dead == "few" else missing <= set(dead)

        eventually(over, 90, step=0.1, what="the arrival of everything", alive=self.agent.alive)
        if dead != "few" and dead:
            eventually(lambda: self.letters() >= set(dead), 30, step=0.1,
                       what="the dead letters", alive=self.agent.alive)

    def judge(self, stats, peak):
        story = self.story
        verdict = self.oracle.verdict()
        letters, missing = self.letters(), self.missing(self.quill.count)
        assert verdict.torn == 0, verdict
        assert missing <= letters, f"lost: {sorted(missing - letters)[:9]}"
        assert len(letters) <= FEW if story.dead == "few" else letters == set(story.dead), \
            f"dead letters: {sorted(letters)[:99]}"
        final = self.endpoint.stats()
        strikes = sum(final["faults_fired"].values()) - final["faults_fired"].get("partial", 0)
        assert verdict.duplicated <= strikes * story.stored * BATCH, verdict
        assert puts(stats) <= story.requests * self.longer, f"{puts(stats)} requests: {stats}"
        assert stats["requests"] - puts(stats) <= QUESTIONS, f"it asks and asks: {stats}"
        assert final["operations"].get("?", 0) == 0, "it went where it was sent"
        assert stats["connections"] <= stats["requests"] + 12, f"a storm of connections: {stats}"
        assert self.agent.sanitized or peak < MEMORY, f"{peak >> 20} MiB"


def puts(stats):
    """Requests that were to bring records."""
    return sum(stats["operations"].get(one, 0) for one in ("PutRecords", "PutRecordBatch"))


def run(name, service):
    """(error or None, a line about it)"""
    world = World(name, service)
    try:
        stats, peak, seconds = world.run()
        return None, (f"{name} {service}: {puts(stats)} requests, {seconds:.1f} s, "
                      f"{world.oracle.duplicated} duplicates, {len(world.letters())} dead, "
                      f"{peak >> 20} MiB")
    except AssertionError as error:
        return f"{error}\n{world.oracle.verdict()}\nthe agent's log:\n{world.agent.tail()}", ""
    finally:
        world.close()
        if os.environ.get("KT_KEEP") != "1":
            shutil.rmtree(world.place, ignore_errors=True)


TOLD = [(name, service) for name, one in STORIES.items() for service in SERVICES
        if one.only in ("", service)]


@pytest.fixture(scope="module")
def told(request):
    """{(story, service): what became of it, in time}, of all that were selected."""
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not there: run make, or say KINETAIL=…", pytrace=False)
    wanted = [item.callspec.params["what"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")]
    wanted.sort(key=lambda what: not STORIES[what[0]].long)
    pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    yield {what: pool.submit(run, *what) for what in wanted}
    pool.shutdown(cancel_futures=True)


def test_there_are_enough():
    assert sum(not one.only for one in STORIES.values()) >= 40
    assert len({one.sentence for one in STORIES.values()}) == len(STORIES)


@pytest.mark.long
@pytest.mark.parametrize("what", TOLD, ids=["-".join(what) for what in TOLD])
def test_story(told, what):
    error, line = told[what].result(timeout=600 * PATIENCE)
    print(STORIES[what[0]].sentence, line, sep="\n")
    assert error is None, error
