"""A TCP proxy that misbehaves as networks do: between an agent and the endpoint, on loopback.

Its Manner says what becomes of a connection; `proxy.manner` is for those to come, and a heal()
leaves the sick ones sick.  What a middlebox does that forgot a connection, or a cut cable, is done
by a socket filter that drops all packets: no acknowledgement, no reset, nothing.
"""
import contextlib
import ctypes
import dataclasses
import select
import socket
import ssl
import struct
import threading
import time

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
CHUNK = 64 * 1024

_DROP = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))    # BPF_RET, 0 bytes


def drop_all(sock):
    """Packets to this socket vanish from now on."""
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                    struct.pack("HP", 1, ctypes.addressof(_DROP)))


def drop_nothing(sock):
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


@dataclasses.dataclass(frozen=True)
class Way:
    """One direction of a connection."""
    cut: int = -1               # after so many bytes …
    then: str = "close"         # close, reset, hold (nothing moves any more), vanish
    rate: int = 0               # bytes a second; 0: as fast as it goes


@dataclasses.dataclass(frozen=True)
class Manner:
    """What becomes of a connection."""
    first: str = "serve"        # at once: serve, close, reset, hold, vanish
    up: Way = Way()             # from the agent to the endpoint
    down: Way = Way()
    reply: bytes = b""          # instead of the endpoint's, to the first bytes of a request
    flood: bytes = b""          # … and then this, again and again


STRAIGHT = Manner()


class Connection:
    """One accepted socket and its way to the target."""

    def __init__(self, proxy, sock, manner):
        self.proxy = proxy
        self.sock = sock
        self.manner = manner
        self.target = None
        self.up = self.down = 0                 # bytes
        self.fresh_cut = None                   # a Way for what comes from the agent next
        self.held = False                       # nothing moves any more
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def end(self, how):
        """What `then` and `first` say."""
        if how == "vanish":
            drop_all(self.sock)
        elif how in ("close", "reset"):
            if how == "reset":
                with contextlib.suppress(OSError):
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                         struct.pack("ii", 1, 0))
            self.over.set()
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR) if how == "close" else None
            if how == "reset":                  # only the last close resets
                self._close()
        self.held = self.held or how in ("hold", "vanish")

    def _close(self):
        for one in (self.sock, self.target):
            if one is not None:
                with contextlib.suppress(OSError):
                    one.close()

    def _run(self):
        try:
            if self.manner.first != "serve":
                self.end(self.manner.first)
                self.over.wait()
            elif self.manner.reply or self.manner.flood:
                self._reply()
            else:
                self.target = self.proxy.reach()
                self._pump()
        except (OSError, ValueError):
            pass
        finally:
            if self.held:                       # not even a FIN
                self.over.wait()
            self._close()

    def _reply(self):
        self.up += len(self.sock.recv(CHUNK))
        self.sock.sendall(self.manner.reply)
        while self.manner.flood and not self.over.is_set():
            self.sock.sendall(self.manner.flood * (CHUNK // len(self.manner.flood) + 1))
        self.sock.settimeout(0.2)               # what it had to say is read: no reset by us
        with contextlib.suppress(OSError):
            while self.sock.recv(CHUNK):
                pass

    def _pump(self):
        ends = {self.sock: self.target, self.target: self.sock}
        for one in ends:
            one.setblocking(True)
        while not self.over.is_set() and not self.held:
            ready, _, _ = select.select(list(ends), [], [], 0.1)
            for one in ready:
                if not self._move(one, ends[one], one is self.sock):
                    return

    def _move(self, source, sink, upward):
        """Some bytes from one to the other, within what the manner allows."""
        way = self.fresh_cut if upward and self.fresh_cut else \
            self.manner.up if upward else self.manner.down
        seen = self.up if upward else self.down
        left = way.cut - seen if way.cut >= 0 else CHUNK
        if left <= 0:
            if upward or source.recv(1, socket.MSG_PEEK):
                self.end(way.then)
                self.over.wait()
                return False
        most = min(CHUNK, left, max(1, way.rate // 10) if way.rate else CHUNK)
        data = source.recv(most)
        if not data:
            return False
        if upward:
            self.up += len(data)
        else:
            self.down += len(data)
        sink.sendall(data)
        if way.rate:
            time.sleep(len(data) / way.rate)
        return True


class TcpProxy:
    """Listens, and passes on to `target`, an address, or a function that gives a socket."""

    def __init__(self, target, listeners=None, manner=STRAIGHT, backlog=64, window=0):
        self._target = target
        self._backlog = backlog
        self.listeners = listeners or [socket.create_server(("127.0.0.1", 0), backlog=backlog)]
        self.port = self.listeners[0].getsockname()[1]
        self.manner = manner
        self.connections = []
        if window:                              # or the kernel takes megabytes for a slow line
            for one in self.listeners:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self._threads = []
        for one in self.listeners:
            self._listen(one)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def accepted(self):
        return len(self.connections)

    def reach(self):
        if callable(self._target):
            return self._target()
        return socket.create_connection(self._target)

    def turn(self, target):
        """Connections to come lead there."""
        self._target = target

    def _listen(self, listener):
        thread = threading.Thread(target=self._serve, args=(listener,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            one = self.wrap(sock)
            self.connections.append(one)
            one.thread.start()

    def wrap(self, sock):
        return Connection(self, sock, self.manner)

    # trouble

    def refuse(self):
        """Nobody listens there any more."""
        for one in self.listeners:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.listeners = []

    def vanish(self):
        """Who wants to connect hears nothing."""
        for one in self.listeners:
            drop_all(one)

    def heal(self):
        """All is well, for connections to come."""
        self.manner = STRAIGHT
        if not self.listeners:
            self.listeners = [socket.create_server(("127.0.0.1", self.port),
                                                   backlog=self._backlog)]
            self._listen(self.listeners[0])
        for one in self.listeners:
            drop_nothing(one)

    def each(self, how):
        """Does it to all connections that are there: close, reset, vanish."""
        for one in list(self.connections):
            with contextlib.suppress(OSError):
                one.end(how)

    def reset_when_used(self):
        """The next byte on a connection that is there is answered by a reset."""
        for one in list(self.connections):
            one.fresh_cut = Way(one.up, "reset")

    def stop(self):
        self.refuse()
        for one in list(self.connections):
            one.over.set()
            with contextlib.suppress(OSError):
                drop_nothing(one.sock)
                one.sock.shutdown(socket.SHUT_RDWR)
        for one in list(self.connections):
            one.thread.join(5)


class ConnectProxy(TcpProxy):
    """An HTTP proxy, for CONNECT: any name leads to `target`.

    `says` is what it answers instead of letting one through; `password` is "user:password" in
    base64, without which it answers 407.  With `tls`, a server's SSLContext, it is an https:// one."""

    def __init__(self, target, listeners=None, tls=None, password=None):
        self.tls = tls
        self.says = b""
        self.silent = False
        self.password = password
        self.heard = []                         # heads of requests
        super().__init__(target, listeners)

    def wrap(self, sock):
        return ConnectConnection(self, sock, self.manner)


class ConnectConnection(Connection):
    def _pump(self):
        if self.proxy.tls is not None:
            self.sock.settimeout(10)
            self.sock = self.proxy.tls.wrap_socket(self.sock, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.sock.recv(1)
            if not data:
                return
            head += data
        self.proxy.heard.append(head)
        password = self.proxy.password
        if self.proxy.silent:
            self.over.wait()
        elif password is not None and f"Proxy-Authorization: Basic {password}\r\n".encode() \
                not in head:
            self._say(b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                      b"Proxy-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\n\r\n")
        elif self.proxy.says:
            self._say(self.proxy.says)
        else:
            self._say(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._pass()

    def _say(self, text):
        self.sock.sendall(text)

    def _pass(self):
        """Both ways; a TLS socket may hold bytes that select does not see."""
        ends = {self.sock: self.target, self.target: self.sock}
        while not self.over.is_set():
            held = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
            ready = [self.sock] if held else select.select(list(ends), [], [], 0.1)[0]
            for one in ready:
                data = one.recv(CHUNK)
                if not data:
                    return
                ends[one].sendall(data)
