"""Sockets: HTTP/1.1 with keep-alive, a thread per connection, and every way of behaving badly.

Threads, because most of what this server is for is waiting at the wrong moment, and a thread may
simply sleep there.  Agents hold a few connections each, and the costly steps (hashing, reading)
release the interpreter.

While it is *down* a socket stays bound to the port without listening, so that connections are
refused and yet nobody else is given the port.
"""

import errno
import select
import socket
import ssl
import struct
import threading
import time

from messages import Answer, Request

HEAD_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 16 << 20       # 10 MiB in base64, 500 long keys in escapes, and the framing
DRAIN_BYTES_MAX = 256 << 20     # of a body that is too large: read, so that 413 can be heard
READ_BYTES = 64 << 10
BACKLOG = 512

BROKEN_HEAD_BYTES = 300 << 10    # more than anybody needs

REASONS = {100: "Continue", 102: "Processing", 103: "Early Hints", 200: "OK", 202: "Accepted",
           204: "No Content", 301: "Moved Permanently", 302: "Found", 307: "Temporary Redirect",
           400: "Bad Request", 403: "Forbidden", 404: "Not Found",
           411: "Length Required", 413: "Request Entity Too Large", 429: "Too Many Requests",
           431: "Request Header Fields Too Large", 500: "Internal Server Error",
           502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


class Gone(Exception):
    """The other side has closed the connection, or we must."""


class BadRequest(Exception):
    """Not HTTP as we speak it; `status` is the whole answer."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


class Server:
    def __init__(self, endpoint, stats, port, tls=None):
        self._endpoint = endpoint
        self._stats = stats
        self._tls = tls
        self._lock = threading.Lock()
        self._live = set()          # sockets of open connections
        self._down_until = 0.0      # monotonic
        self._stopping = False
        self._listener = _bound(port)
        self._listener.listen(BACKLOG)
        self._listening = True
        self.port = self._listener.getsockname()[1]

    def start(self):
        threading.Thread(target=self._accept, name="accept", daemon=True).start()

    def stop(self):
        with self._lock:
            self._stopping = True
            self._close_all()

    def go_down(self, seconds):
        """Refuses connections and cuts the live ones; comes back after `seconds`."""
        with self._lock:
            self._down_until = max(self._down_until, time.monotonic() + seconds)
            self._close_all()

    def _close_all(self):
        """Wakes every thread by shutting its socket; each closes its own.

        A listener is shut once, while it listens: one that is shut before hears nothing later."""
        for sock in [self._listener] * self._listening + list(self._live):
            _shut(sock)
        self._listening = False

    def _accept(self):
        while not self._stopping:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if error.errno == errno.EINVAL:     # shut by us
                    self._come_back()
                else:
                    time.sleep(0.05)                # no descriptors, say: the queue will wait
                continue
            with self._lock:
                if self._stopping or time.monotonic() < self._down_until:
                    _abort(sock)
                    continue
                self._live.add(sock)
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _come_back(self):
        """After the listener was shut.  A shut listener cannot be trusted to listen again (Linux
        6.18 accepts the call and hears nothing), so another takes its place."""
        self._listener.close()
        self._listener = _bound(self.port)
        while not self._stopping:
            with self._lock:
                if time.monotonic() >= self._down_until:
                    self._listener.listen(BACKLOG)
                    self._listening = True
                    return
            time.sleep(0.01)

    def _converse(self, sock):
        """One connection, from handshake to close."""
        self._stats.count("connections")
        self._stats.count("connections_open")
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(self._handshake(sock), self._endpoint, self._stats).serve()
        except (OSError, Gone):
            pass
        finally:
            with self._lock:
                self._live.discard(sock)
            self._stats.count("connections_open", -1)
            sock.close()

    def _handshake(self, sock):
        if self._tls is None:
            return sock
        try:
            # Wraps a duplicate: the plain socket stays ours to shut and to reset.
            return self._tls.wrap_socket(sock.dup(), server_side=True)
        except OSError:
            self._stats.count("tls_failures")
            raise


class Connection:
    """Reads requests and writes answers on one socket, until one side has enough."""

    def __init__(self, sock, endpoint, stats):
        self._sock = sock
        self._endpoint = endpoint
        self._stats = stats
        self._pending = bytearray()     # read, but not yet part of a request

    def serve(self):
        try:
            while self._turn():
                pass
        except BadRequest as error:
            self._stats.count("malformed")
            answer = Answer(error.status)
            answer.manner.close = True
            self._send(_head(answer, [], 0))
        finally:
            self._sock.close()

    def _turn(self):
        """One request and its answer; False when the connection is done."""
        request, length = self._read_head()
        reading = self._endpoint.receive(request)
        if reading is not None and reading.end:
            return self._read_badly(length, reading)
        try:
            if length > BODY_BYTES_MAX:
                self._drain(length)
                answer = self._endpoint.too_large(request, length)
            else:
                request.body = self._read_body(length, reading.per_s if reading else 0)
                answer = self._endpoint.answer(request)
            alive = self._deliver(answer, request)
        finally:
            self._stats.end(request)
        if answer.then is not None:
            answer.then()
        return alive and request.header("connection", "").lower() != "close"

    # --- reading --------------------------------------------------------------------------------

    def _read_head(self):
        """The next request without its body, and the length of that."""
        end = self._pending.find(b"\r\n\r\n")
        while end < 0:
            if len(self._pending) > HEAD_BYTES_MAX:
                raise BadRequest(431)
            self._fill()
            end = self._pending.find(b"\r\n\r\n")
        head = bytes(self._pending[:end])
        del self._pending[:end + 4]
        request = _parse_head(head)
        if request.header("transfer-encoding") is not None:
            raise BadRequest(411)
        length = request.header("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise BadRequest(400)
        if request.header("expect", "").lower() == "100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return request, int(length)

    def _read_badly(self, length, reading):
        """Part of a body, and then the end that `reading` names."""
        self._drain(int(length * reading.at))
        if reading.end == "reset":
            _abort(self._sock)
        elif reading.end == "stall":
            # Deaf, not dead: the kernel takes what fits into its buffers.  A peer that gives up
            # is noticed, for the threads' sake.
            poll = select.poll()
            poll.register(self._sock, select.POLLRDHUP)
            poll.poll()
        elif reading.end == "answer":
            answer = reading.answer
            self._send(_head(answer, answer.headers, len(answer.body)) + answer.body)
            # Not reading on and closing would be a reset, which takes the answer with it.
            _half_close(self._sock)
            self._drain(DRAIN_BYTES_MAX)
        return False

    def _read_body(self, length, per_s=0):
        if per_s:
            return self._read_slowly(length, per_s)
        if len(self._pending) >= length:
            body = bytes(self._pending[:length])
            del self._pending[:length]
            return body
        body = bytearray(length)
        have = len(self._pending)
        body[:have] = self._pending
        self._pending.clear()
        view = memoryview(body)
        while have < length:
            got = self._sock.recv_into(view[have:])
            if got == 0:
                raise Gone
            have += got
        return body

    def _read_slowly(self, length, per_s):
        step = max(1, int(per_s / 10))
        while len(self._pending) < length:
            time.sleep(step / per_s)
            data = self._sock.recv(min(step, length - len(self._pending)))
            if not data:
                raise Gone
            self._pending += data
        body = bytes(self._pending[:length])
        del self._pending[:length]
        return body

    def _fill(self):
        data = self._sock.recv(READ_BYTES)
        if not data:
            raise Gone
        self._pending += data

    def _drain(self, length):
        length = min(length, DRAIN_BYTES_MAX) - len(self._pending)
        self._pending.clear()
        while length > 0:
            data = self._sock.recv(min(READ_BYTES, length))
            if not data:
                raise Gone
            length -= len(data)

    # --- writing --------------------------------------------------------------------------------

    def _send(self, data):
        self._sock.sendall(data)

    def _send_last(self, request, data):
        """The end of an answer.  It counts as delivered just before: a client that sends its next
        request at once must not seem to have two in flight."""
        self._stats.end(request)
        self._send(data)

    def _deliver(self, answer, request):
        """`_write`, and counts answers whose reader had gone."""
        try:
            return self._write(answer, request)
        except OSError:
            self._stats.count("undelivered")
            raise

    def _write(self, answer, request):
        """Writes an answer in its manner; False when the connection must close."""
        manner = answer.manner
        if manner.reset:
            self._stats.end(request)
            _abort(self._sock)
            return False
        if manner.hang_up:
            self._stats.end(request)
            return False
        if manner.stall:
            while self._sock.recv(READ_BYTES):
                pass
            return False
        if manner.delay_ms:
            time.sleep(manner.delay_ms / 1000)
        if manner.interim:
            self._send(b"HTTP/1.1 %d %s\r\nLink: </x>; rel=preload\r\n\r\n" % (
                manner.interim, REASONS.get(manner.interim, "Interim").encode()))
        headers = answer.headers
        if answer.content_type is not None:
            headers = headers + [("Content-Type", answer.content_type)]
        if answer.chunks is not None:
            return self._send_chunks(answer, headers)
        if manner.chunked:
            return self._send_in_chunks(answer, headers, request)
        head = _head(answer, headers, None if manner.http10 else len(answer.body))
        if manner.cut_at is not None:
            self._send_last(request, head + answer.body[:int(len(answer.body) * manner.cut_at)])
            return False
        if manner.chunk_bytes:
            self._send_last(request, self._dribble(head, answer.body, manner))
        else:
            self._send_last(request, head + answer.body)
        if manner.close_after_ms is not None:
            time.sleep(manner.close_after_ms / 1000)
        return not (manner.close or manner.http10 or manner.head
                    or manner.close_after_ms is not None)

    def _dribble(self, head, body, manner):
        """Sends the head and then chunk after chunk; returns the last one, unsent."""
        chunk = head
        until = time.monotonic() + (manner.dribble_ms / 1000 or float("inf"))
        for at in range(0, len(body), manner.chunk_bytes):
            if time.monotonic() > until:
                return chunk + body[at:]
            self._send(chunk)
            time.sleep(manner.pause_ms / 1000)
            chunk = body[at:at + manner.chunk_bytes]
        return chunk

    def _send_in_chunks(self, answer, headers, request):
        size, body = answer.manner.chunked, answer.body
        self._send(_head(answer, headers + [("Transfer-Encoding", "chunked"),
                                            ("Trailer", "X-Surprise")], None))
        for at in range(0, len(body), size):
            piece = body[at:at + size]
            self._send(b"%x;surprise=1\r\n%s\r\n" % (len(piece), piece))
        self._send_last(request, b"0\r\nX-Surprise: yes\r\n\r\n")
        return not answer.manner.close

    def _send_chunks(self, answer, headers):
        self._send(_head(answer, headers + [("Transfer-Encoding", "chunked")], None))
        for chunk in answer.chunks:
            self._send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self._send(b"0\r\n\r\n")
        return True


def _parse_head(head):
    # Bytes that are not UTF-8 survive as surrogates, so that a signature over them can be checked.
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
        raise BadRequest(400)
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400)
        headers.append((name.lower(), value.strip()))
    return Request(words[0], words[1], headers)


# How a head may be broken: the lines, and what stands in their place.
HEADS = {
    "nonsense": lambda lines: ["SSH-2.0-OpenSSH_9.2p1 Debian-2"],
    "huge": lambda lines: lines + ["X-Surprise: " + "x" * BROKEN_HEAD_BYTES],
    "many": lambda lines: lines + ["X-Surprise-%d: x" % i for i in range(10000)],
    "no_colon": lambda lines: lines[:1] + ["this is not a header"] + lines[1:],
    "long": lambda lines: _length(lines, lambda n: n + 1000),       # and then it closes
    "short": lambda lines: _length(lines, lambda n: n // 2),
    "negative": lambda lines: _length(lines, lambda n: -1),
    "two_lengths": lambda lines: _length(lines, lambda n: n) + ["Content-Length: 7"],
    "no_status": lambda lines: ["HTTP/1.1 OK"] + lines[1:],
    "zeros": lambda lines: lines + ["X-Surprise: \0\0"],
}


def _length(lines, change):
    return ["Content-Length: %d" % change(int(line.partition(":")[2]))
            if line.startswith("Content-Length:") else line for line in lines]


def _head(answer, headers, length):
    """The head of an answer in its manner; `length` None: it has another end."""
    manner = answer.manner
    if length is not None:
        headers = headers + [("Content-Length", str(length))]
    if manner.close:
        headers = headers + [("Connection", "close")]
    if manner.small:
        headers = [(name.lower(), value) for name, value in headers]
    if manner.repeat:
        headers = headers + headers
    lines = ["HTTP/1.%d %d %s" % (not manner.http10, answer.status,
                                  REASONS.get(answer.status, "Status"))]
    lines += ["%s: %s" % header for header in headers]
    if manner.head:
        lines = HEADS[manner.head](lines)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _bound(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _shut(sock):
    try:
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass


def _half_close(sock):
    socket.socket.shutdown(sock, socket.SHUT_WR)


def _abort(sock):
    """Closes with RST: lingering for no time throws away what was not read or sent."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def tls_context(cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["http/1.1"])
    return context
