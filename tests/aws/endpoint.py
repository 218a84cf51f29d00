"""What happens to one request: whose it is, is it signed, does a fault strike, what is counted.

A service is any object with
    name, error_form            its name in a signature's scope; "json" or "xml"
    claims(request)             is this request for you?
    operation(request)          its operation's name, or ServiceError
    signed(operation)           must it be signed?
    words                       what it calls what faults meddle with (Words)
    perform(request, operation) an Answer, or ServiceError, or Refused
and services know nothing of each other.
"""

import sys
import threading
import time
import uuid
from base64 import b64encode
from collections import Counter
from os import urandom

from messages import Answer, Refused, ServiceError, error_answer
from sigv4 import SignatureError


class Stats:
    """Counters of everything but the store; any thread."""

    def __init__(self):
        self._lock = threading.Lock()
        self.in_flight = 0              # these two are states, not counts: reset spares them
        self.connections_open = 0
        self.reset()

    def reset(self):
        self.requests = 0
        self.body_bytes = 0
        self.operations = Counter()
        self.outcomes = Counter()
        self.signature_failures = 0
        self.connections = 0            # accepted
        self.malformed = 0              # what was not HTTP as we speak it
        self.tls_failures = 0
        self.undelivered = 0            # answers whose reader had gone
        self.in_flight_max = 0

    def count(self, name, step=1):
        with self._lock:
            setattr(self, name, getattr(self, name) + step)

    def begin(self, request):
        with self._lock:
            request.in_flight = True
            self.in_flight += 1
            self.in_flight_max = max(self.in_flight_max, self.in_flight)

    def end(self, request):
        """Once or more often; a request that was never begun is none of ours."""
        with self._lock:
            self.in_flight -= request.in_flight
            request.in_flight = False

    def finish(self, operation, body_bytes, outcome):
        with self._lock:
            self.requests += 1
            self.body_bytes += body_bytes
            self.operations[operation] += 1
            self.outcomes[outcome] += 1

    def describe(self):
        with self._lock:
            return {"requests": self.requests, "body_bytes": self.body_bytes,
                    "operations": dict(self.operations), "outcomes": dict(self.outcomes),
                    "signature_failures": self.signature_failures,
                    "connections": self.connections, "connections_open": self.connections_open,
                    "malformed": self.malformed, "tls_failures": self.tls_failures,
                    "undelivered": self.undelivered, "in_flight_max": self.in_flight_max}


class Endpoint:
    def __init__(self, services, control, verifier, faults, stats, clock, verbose=False):
        self._services = services
        self._control = control
        self._verifier = verifier
        self._faults = faults
        self._stats = stats
        self._clock = clock
        self._verbose = verbose

    def answer(self, request):
        """The answer to a request, and the manner of its delivery."""
        if self._control.claims(request):
            answer = self._control.answer(request)
        else:
            self._stats.begin(request)
            answer = self._serve(request)
        answer.headers.append(("Date", self._clock.http_date(answer.date_offset)))
        return answer

    def receive(self, request):
        """How to read the body of a request whose head has come; None: politely."""
        if self._control.claims(request):
            return None
        operation = request.header("x-amz-target", "").rpartition(".")[2] or "?"
        reading = self._faults.reading(operation)
        if reading is not None and reading.end:
            self._stats.finish(operation, 0, reading.outcome)
        if reading is not None and reading.answer is not None:
            reading.answer.headers.append(("Date", self._clock.http_date()))
        return reading

    def _serve(self, request):
        began = time.monotonic()
        service = next((s for s in self._services if s.claims(request)), None)
        operation = "?"
        try:
            if service is None:
                raise ServiceError("UnknownOperationException", status=404)
            operation = service.operation(request)
            answer = self._perform(service, request, operation)
        except SignatureError as error:
            self._stats.count("signature_failures")
            answer = error_answer(error, service.error_form)
        except ServiceError as error:
            answer = error_answer(error, service.error_form if service else "json")
        except Refused as refused:
            answer = refused.answer
        self._faults.deliver(operation, request, answer)
        answer.headers += [("x-amzn-RequestId", str(uuid.uuid4())),
                           ("x-amz-id-2", b64encode(urandom(48)).decode())]
        self._stats.finish(operation, len(request.body), answer.outcome)
        if self._verbose:
            print("%s %d %s %d bytes %.1f ms" % (
                operation, answer.status, answer.outcome, len(request.body),
                (time.monotonic() - began) * 1000), file=sys.stderr, flush=True)
        return answer

    def _perform(self, service, request, operation):
        # The signature comes first: no fault may hide that it is wrong.
        if service.signed(operation):
            self._verifier.check(request, service.name)
        refused = self._faults.refusal(service, operation, request)
        if refused is not None:
            return refused
        answer = service.perform(request, operation)
        self._faults.rewrite(service, operation, request, answer)
        return answer

    def too_large(self, request, size):
        """The service says no more than this about a body that is too large."""
        if not self._control.claims(request):
            self._stats.begin(request)
            self._stats.finish("?", size, "413")
        answer = Answer(413, outcome="413")
        answer.manner.close = True
        answer.headers.append(("Date", self._clock.http_date()))
        return answer
