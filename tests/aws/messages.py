"""What comes in and what goes out: requests, answers, and errors in the shapes AWS gives them.

No module here knows a socket; `server.py` turns bytes into a Request and an Answer into bytes.
An Answer also carries its *manner*: how badly it is to be delivered.  So the server obeys
without knowing why, and the faults decide without touching a socket.
"""

import json
import re
import time
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

JSON_TYPE = "application/x-amz-json-1.1"
STREAM_BYTES = 4096         # of a body: the name of its stream stands in them
_STREAM = re.compile(rb'"(?:StreamName|DeliveryStreamName|StreamARN)"\s*:\s*"(?:[^"]*/)?([^"/]+)"')


class Request:
    """One HTTP request, complete.  Header names are in lower case, in order, repeats kept."""

    __slots__ = ("method", "path", "query", "headers", "body", "first", "in_flight")

    def __init__(self, method, target, headers, body=b""):
        self.method = method
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = body
        self.in_flight = False      # counted as waiting for its answer
        self.first = {}
        for name, value in headers:
            self.first.setdefault(name, value)

    def header(self, name, default=None):
        return self.first.get(name, default)

    @property
    def stream(self):
        """The stream that its body names, as far as one can tell without reading it all."""
        found = _STREAM.search(self.body[:STREAM_BYTES])
        return found and found[1].decode(errors="replace")


@dataclass(slots=True)
class Manner:
    """How an answer is delivered.  The default is politely."""

    delay_ms: float = 0         # before the first byte
    chunk_bytes: int = 0        # > 0: the body in pieces of so many bytes …
    pause_ms: float = 0         # … with this pause between them …
    dribble_ms: float = 0       # … for so long, if > 0; then the rest at once
    cut_at: float | None = None  # send this fraction of the body, then close
    reset: bool = False         # no answer, RST
    hang_up: bool = False       # no answer, FIN
    stall: bool = False         # no answer, and the connection stays open
    close: bool = False         # Connection: close
    close_after_ms: float | None = None     # closes so long after the answer, which says nothing
    interim: int = 0            # a status 1xx that comes before the answer
    http10: bool = False        # HTTP/1.0, and the end of the connection is the end of the body
    chunked: int = 0            # > 0: Transfer-Encoding: chunked, chunks of so many bytes
    small: bool = False         # header names in small letters
    repeat: bool = False        # every header twice
    head: str = ""              # how the head is broken; server.HEADS knows

    @property
    def mute(self):
        """Nothing of the answer will be seen."""
        return self.reset or self.hang_up or self.stall


@dataclass(slots=True)
class Reading:
    """How the body of a request is read, if not politely."""

    outcome: str                # what the statistics call it
    at: float = 1.0             # the fraction that is read …
    end: str = ""               # … and then: "reset", "close", "stall" or "answer"
    per_s: float = 0            # > 0: bytes a second
    answer: object = None


@dataclass(slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: list = field(default_factory=list)
    manner: Manner = field(default_factory=Manner)
    outcome: str = "ok"         # what the statistics call it
    date_offset: float = 0      # seconds by which its Date header lies
    chunks: object = None       # an iterator of bytes instead of a body
    then: object = None         # called when the answer has left


class ServiceError(Exception):
    """A refusal of the whole call.  `form` None means: in the shape the service uses."""

    def __init__(self, code, message=None, status=400, form=None):
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.form = form


@dataclass(frozen=True)
class Words:
    """What a service calls the things that faults meddle with."""

    put: str                # the operation that takes many records
    failed_count: str       # members of its answer …
    entries: str
    record_id: str          # … and of an entry
    throttled: str          # the error, of a call or of a record …
    throttled_status: int   # … and the status, if of a call


# Of a service that has nothing of the kind.
ANY_WORDS = Words(put="", failed_count="", entries="", record_id="",
                  throttled="ThrottlingException", throttled_status=400)


class Refused(Exception):
    """A fault that turned up in the middle of a call: nothing is stored, this is the answer."""

    def __init__(self, answer):
        super().__init__(answer.outcome)
        self.answer = answer


def _json_error(code, message):
    members = {"__type": code}
    if message is not None:
        # Coral writes a capital M when the call failed before it reached the service.
        members["Message" if code == "SerializationException" else "message"] = message
    return json.dumps(members), JSON_TYPE


def _namespace_error(code, message):
    body, kind = _json_error("com.amazonaws.kinesis.v20131202#%s:http://internal.amazon.com/"
                             "coral/com.amazonaws.kinesis.v20131202/" % code, message)
    return body, kind


def _garbled_error(code, message):
    return (b'{"__type":"%s","message":"\xff\xfe \x1b[2J\x00 \xc3 %s \xed\xa0\x80"}'
            % (code.encode(), (message or "").encode())), JSON_TYPE


def _xml_error(code, message):
    return ("<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error>"
            "<RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>"
            % (escape(code), escape(message or ""))), "text/xml"


def _html_error(code, message):
    return ("<html>\r\n<head><title>%s</title></head>\r\n<body><center><h1>%s</h1></center></body>"
            "\r\n</html>\r\n" % (escape(code), escape(message or ""))), "text/html"


ERROR_FORMS = {
    "json": _json_error,
    "namespace": _namespace_error,                         # "prefix#Name:address"
    "garbled": _garbled_error,                             # a message of broken UTF-8
    "xml": _xml_error,                                     # Query services, some proxies
    "html": _html_error,                                   # a load balancer speaking
    "plain": lambda code, message: ("%s: %s" % (code, message), "text/plain"),
    "array": lambda code, message: ('["%s"]' % code, JSON_TYPE),
    "empty": lambda code, message: ("", None),
    "header": lambda code, message: ("{}", JSON_TYPE),     # the code only in x-amzn-ErrorType
}


def error_answer(error, form):
    """The answer that tells `error`, in `form` unless the error asks for another."""
    form = error.form or form
    body, content_type = ERROR_FORMS[form](error.code, error.message)
    body = body if isinstance(body, bytes) else body.encode()
    answer = Answer(error.status, body, content_type, outcome=error.code)
    if form == "header":
        answer.headers.append(("x-amzn-ErrorType", error.code + ":http://internal.amazon.com/"))
    return answer


class Clock:
    """The wall clock of the pretended service; `offset` seconds away from the machine's."""

    def __init__(self, offset=0.0):
        self.offset = offset

    def now(self):
        return time.time() + self.offset

    def http_date(self, offset=0.0):
        return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.now() + offset))
