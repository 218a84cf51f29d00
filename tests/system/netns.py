"""A network of its own, with its own names: a network namespace with addresses on its loopback, an
/etc/resolv.conf of its own, and a DNS server that can be told what to say.

Sockets of this process are made inside by open(); the agent runs inside by `inside` (see Agent)."""
import contextlib
import ctypes
import os
import socket
import struct
import subprocess
import threading

from harness import have

CLONE_NEWNET = 0x40000000
A, AAAA = 1, 28
NO_ERROR, SERVER_FAILURE, NO_NAME = 0, 2, 3


class Unavailable(Exception):
    """Why there cannot be one here."""


class Netns:
    def __init__(self, place, addresses=("10.9.0.1", "10.9.0.2"), resolv="nameserver 127.0.0.1\n"):
        if os.geteuid() != 0 or not all(map(have, ("unshare", "nsenter", "ip", "mount"))):
            raise Unavailable("only root can make a network namespace, with util-linux and iproute2")
        (place / "resolv.conf").write_text(resolv)
        script = "set -e; ip link set lo up; " + "".join(
            f"ip addr add {a}/32 dev lo; " for a in addresses) + \
            f"mount --bind {place}/resolv.conf /etc/resolv.conf; echo ready; read end"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._holder.stdout.readline() != "ready\n":
            told = self._holder.communicate()[1]
            raise Unavailable(f"no network namespace: {told.strip()}")
        self.inside = ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", "--"]

    def within(self, make):
        """What make() gives, called inside; for sockets, which stay there."""
        got, failed = [], []

        def run():
            try:
                fd = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(fd, CLONE_NEWNET) != 0:       # of this thread only
                    raise OSError(ctypes.get_errno(), "setns")
                os.close(fd)
                got.append(make())
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return got[0]

    def listen(self, address, port=0):
        return self.within(lambda: socket.create_server((address, port)))

    def run(self, *command):
        subprocess.run([*self.inside, *command], check=True, capture_output=True)

    def close(self):
        with contextlib.suppress(OSError):
            self._holder.stdin.close()
        try:
            self._holder.wait(5)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()
        self._holder.stdout.close()
        self._holder.stderr.close()


class Dns:
    """Answers for every name with `addresses` (of both families), or with an error `code`, or not
    at all if it is `silent`."""

    def __init__(self, netns, addresses=(), address="127.0.0.1"):
        self.addresses = list(addresses)
        self.code = NO_ERROR
        self.silent = False
        self.asked = 0

        def make():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, 53))
            return sock

        self._sock = netns.within(make)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                query, peer = self._sock.recvfrom(2048)
            except OSError:
                return
            if not query:
                return
            self.asked += 1
            if not self.silent:
                with contextlib.suppress(OSError):
                    self._sock.sendto(self._answer(query), peer)

    def _answer(self, query):
        end = query.index(b"\0", 12) + 5
        question, (kind,) = query[12:end], struct.unpack(">H", query[end - 4:end - 2])
        found = []
        if self.code == NO_ERROR:
            for text in self.addresses:
                family = socket.AF_INET6 if ":" in text else socket.AF_INET
                if kind == (AAAA if family == socket.AF_INET6 else A):
                    found.append(socket.inet_pton(family, text))
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | self.code, 1, len(found), 0, 0)
        return head + question + b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(one)) + one for one in found)

    def stop(self):
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
