"""The control API under /_control/: set faults, read what was stored and counted.  Unsigned.

    GET    stats                     counters
    DELETE stats                     back to zero (records stored stay stored)
    GET    faults                    the faults that are set, with calls seen and times fired
    POST   faults                    sets the list: one fault or a list of them
    DELETE faults                    behaves again
    GET    records?stream=S&after=N&limit=M   what was stored, in arrival order, a JSON line each:
                                     {"n","stream","shard","seq","key","data": base64,"t": ms}
    DELETE records                   forgets them; n goes on counting
    POST   streams   {"name","shards","mode","auto","max_record_kib"}     creates a stream
    POST   stream    {"name","auto","max_record_kib"}     changes one: who spreads the records, and
                                     how large one may be
    DELETE streams?name=S            deletes one; what it had stored stays stored
    POST   delivery_streams {"name","kind"}     creates a Firehose delivery stream; kind: DirectPut
    DELETE delivery_streams?name=S   deletes one
    POST   keys      {"id","secret","token","expired"}    adds or replaces an access key
    DELETE keys?id=AKID              forgets one
    POST   clock     {"offset_s": N}     moves the clock of the service (Date and signatures)
    POST   budgets   {"shard_bytes": N, "shard_records": N}     of every shard, per second; 0 or
                                     missing: unlimited.  {"stream": S, "shard": I, …}: of one only
    POST   delivery_budgets {"stream_bytes": N, "stream_records": N, "stream_requests": N}
                                     of every delivery stream
    POST   imds      {"document","meta","tags","forget"}    what the instance metadata tells (imds.py)
    GET    live                      200 {}
"""

import binascii
import json
from urllib.parse import parse_qs

from messages import Answer, ServiceError
from sigv4 import Key

PREFIX = "/_control/"
CHUNK_RECORDS = 500


class BadCommand(Exception):
    """What was asked cannot be done; the text says why."""


class Control:
    def __init__(self, kinesis, firehose, store, faults, stats, verifier, clock, imds):
        self._kinesis = kinesis
        self._firehose = firehose
        self._store = store
        self._faults = faults
        self._stats = stats
        self._verifier = verifier
        self._clock = clock
        self._imds = imds

    def claims(self, request):
        return request.path.startswith("/_control")

    def answer(self, request):
        command = COMMANDS.get((request.method, request.path.removeprefix(PREFIX)))
        if command is None:
            return _text(404, __doc__)
        try:
            return command(self, request)
        except (BadCommand, TypeError, ValueError, ZeroDivisionError) as error:
            return _json({"error": str(error)}, 400)
        except ServiceError as error:
            return _json({"error": error.message or error.code}, 400)

    # --- counters and faults --------------------------------------------------------------------

    def get_stats(self, request):
        with self._store.lock:
            stored = {"records_stored": self._store.records, "bytes_stored": self._store.bytes,
                      "records_failed": self._kinesis.failed_records
                      + self._firehose.failed_records}
        return _json(self._stats.describe() | stored
                     | {"faults_fired": dict(self._faults.fired)})

    def delete_stats(self, request):
        self._stats.reset()
        self._faults.fired.clear()
        return _json({})

    def get_faults(self, request):
        return _json(self._faults.describe())

    def post_faults(self, request):
        down_seconds = self._faults.replace(_body(request))
        answer = self.get_faults(request)
        if down_seconds:
            answer.then = lambda: self._faults.go_down(down_seconds)
        return answer

    def delete_faults(self, request):
        self._faults.replace([])
        return _json([])

    # --- records --------------------------------------------------------------------------------

    def get_records(self, request):
        if not self._store.keep:
            raise BadCommand("nothing is kept: started with --keep none")
        stream = _parameter(request, "stream")
        after, limit = (_number(request, name) for name in ("after", "limit"))
        with self._store.lock:
            segments = self._store.after(after or 0)
        answer = Answer(content_type="application/x-ndjson")
        answer.chunks = _lines(segments, stream, after or 0, limit)
        return answer

    def delete_records(self, request):
        self._kinesis.forget_records()
        return _json({})

    # --- the world ------------------------------------------------------------------------------

    def post_streams(self, request):
        wanted = _object(request, "name", "shards", "mode", "auto", "max_record_kib")
        self._kinesis.add_stream(wanted.pop("name"), wanted.pop("shards", 1), **wanted)
        return _json({})

    def post_stream(self, request):
        self._kinesis.change_stream(**_object(request, "name", "auto", "max_record_kib"))
        return _json({})

    def delete_streams(self, request):
        self._kinesis.remove_stream(_parameter(request, "name"))
        return _json({})

    def post_delivery_streams(self, request):
        self._firehose.add_stream(**_object(request, "name", "kind"))
        return _json({})

    def delete_delivery_streams(self, request):
        self._firehose.remove_stream(_parameter(request, "name"))
        return _json({})

    def post_keys(self, request):
        wanted = _object(request, "id", "secret", "token", "expired")
        key_id = wanted.pop("id")
        self._verifier.keys[key_id] = Key(key_id, **wanted)
        return _json({})

    def delete_keys(self, request):
        self._verifier.keys.pop(_parameter(request, "id"), None)
        return _json({})

    def post_clock(self, request):
        self._clock.offset = float(_object(request, "offset_s").get("offset_s", 0))
        return _json({"offset_s": self._clock.offset})

    def post_budgets(self, request):
        wanted = _body(request)
        if not isinstance(wanted, dict):
            raise BadCommand("expected an object")
        limits = self._kinesis.limits
        if "stream" in wanted:
            limits = self._kinesis.limit_shard(wanted.pop("stream"), wanted.pop("shard", 0))
        return _json(_limit(limits, wanted))

    def post_delivery_budgets(self, request):
        return _json(_limit(self._firehose.limits, _body(request)))

    def post_imds(self, request):
        wanted = _body(request)
        if not isinstance(wanted, dict) or set(wanted) - {"document", "meta", "tags", "forget"}:
            raise BadCommand("expected an object of: document, meta, tags, forget")
        return _json(self._imds.change(wanted))

    def get_live(self, request):
        return _json({})


COMMANDS = {
    ("GET", "stats"): Control.get_stats,
    ("DELETE", "stats"): Control.delete_stats,
    ("GET", "faults"): Control.get_faults,
    ("POST", "faults"): Control.post_faults,
    ("DELETE", "faults"): Control.delete_faults,
    ("GET", "records"): Control.get_records,
    ("DELETE", "records"): Control.delete_records,
    ("POST", "streams"): Control.post_streams,
    ("POST", "stream"): Control.post_stream,
    ("DELETE", "streams"): Control.delete_streams,
    ("POST", "delivery_streams"): Control.post_delivery_streams,
    ("DELETE", "delivery_streams"): Control.delete_delivery_streams,
    ("POST", "keys"): Control.post_keys,
    ("DELETE", "keys"): Control.delete_keys,
    ("POST", "clock"): Control.post_clock,
    ("POST", "budgets"): Control.post_budgets,
    ("POST", "delivery_budgets"): Control.post_delivery_budgets,
    ("POST", "imds"): Control.post_imds,
    ("GET", "live"): Control.get_live,
}


def _json(value, status=200):
    return Answer(status, json.dumps(value).encode() + b"\n", "application/json")


def _text(status, text):
    return Answer(status, text.encode(), "text/plain; charset=utf-8")


def _body(request):
    try:
        return json.loads(request.body)
    except ValueError as error:
        raise BadCommand("the body is not JSON: %s" % error) from None


def _object(request, *names):
    """The body as an object that has no members but `names`, its first name always."""
    value = _body(request)
    if not isinstance(value, dict) or set(value) - set(names) or names[0] not in value:
        raise BadCommand("expected an object of: " + ", ".join(names))
    return value


def _limit(limits, wanted):
    """Sets every member of `limits`, those that `wanted` does not name to 0."""
    if not isinstance(wanted, dict) or set(wanted) - set(vars(limits)):
        raise BadCommand("expected an object of: " + ", ".join(vars(limits)))
    for name in vars(limits):
        setattr(limits, name, int(wanted.get(name) or 0))
    return vars(limits)


def _parameter(request, name):
    return parse_qs(request.query).get(name, [None])[0]


def _number(request, name):
    value = _parameter(request, name)
    if value is not None and not value.isdigit():
        raise BadCommand("%s is a number" % name)
    return None if value is None else int(value)


def _lines(segments, stream, after, limit):
    """The stored records as JSON lines, some hundred at a time."""
    left = float("inf") if limit is None else limit
    for segment in segments:
        if stream not in (None, segment.stream.name):
            continue
        start = max(0, after + 1 - segment.first)
        count = int(min(len(segment) - start, left))
        left -= max(count, 0)
        for at in range(start, start + count, CHUNK_RECORDS):
            yield b"".join(_line(segment, i) for i in range(at, min(at + CHUNK_RECORDS,
                                                                    start + count)))
        if left <= 0:
            return


def _line(segment, i):
    shard_index, place, key, data = segment.record(i)
    shard, sequence = segment.stream.describe_record(shard_index, place, segment.wall_ms // 1000)
    return b'{"n":%d,"stream":"%s","shard":"%s","seq":"%s","key":%s,"data":"%s","t":%d}\n' % (
        segment.first + i, segment.stream.name.encode(), shard.encode(), sequence.encode(),
        json.dumps(key.decode()).encode(),
        binascii.b2a_base64(data, newline=False), segment.wall_ms)
