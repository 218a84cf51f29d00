"""A writer as daemons are: paced, buffered, and told to open its log anew.

As a program (the tests run it as a process of its own, so that it is not held up by them):

    python3 writer.py [options] PATH

It appends numbered lines (oracle.line) to PATH, `--rate` a second in bursts of 10 ms, until it
has written `--lines`, or `--seconds` have gone, or SIGTERM comes; then it prints one line of JSON:
{"files": {id: lines}, "reopened": n}.  Each file it opens gets a new id: ID.0, ID.1, …

--reopen signal   opens PATH anew on SIGHUP or SIGUSR1, as most daemons do
--reopen inode    opens PATH anew when it is missing or another file, as WatchedFileHandler does
--hold S          goes on writing to the old file for S seconds before it opens the new one
--block N         writes in blocks of N bytes wherever lines end, as stdio does; a line that is
                  not full stays half in the file till the next block.  0: whole lines only
--lock FILE       takes a shared lock around each burst; whoever holds it exclusively has paused
                  the writer between two lines
--status FILE     keeps the number of lines written so far here (u64, little-endian)
"""
import argparse
import contextlib
import errno
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time

from oracle import line

TICK = 0.01
_COUNT = struct.Struct("<Q")


class _Log:
    """One open log file and the lines in it."""

    def __init__(self, path, file_id, block):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self.id = file_id
        self.block = block
        self.lines = 0
        self.buffer = bytearray()

    def add(self, count):
        first = self.lines
        self.lines += count
        self.buffer += b"".join([line(self.id, n) + b"\n" for n in range(first, self.lines)])
        whole = len(self.buffer) if not self.block else \
            len(self.buffer) - len(self.buffer) % self.block
        self.put(whole)

    def put(self, size):
        step = self.block or size
        at = 0
        while at < size:
            at += os.write(self.fd, memoryview(self.buffer)[at:min(at + step, size)])
        del self.buffer[:size]

    def close(self):
        self.put(len(self.buffer))
        os.close(self.fd)

    def is_at(self, path):
        try:
            there = os.stat(path)
        except FileNotFoundError:
            return False
        here = os.fstat(self.fd)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def run(args):
    wishes = {"stop": False, "reopen": False}

    def stop(*_):
        wishes["stop"] = True

    def reopen(*_):
        wishes["reopen"] = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reopen)
    signal.signal(signal.SIGUSR1, reopen)

    status = os.open(args.status, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644) \
        if args.status else -1
    lock = os.open(args.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644) if args.lock else -1
    files = {}
    opened = 0

    def open_log():
        nonlocal opened
        file_id = f"{args.id}.{opened}"
        opened += 1
        return _Log(args.path, file_id.encode(), args.block)

    log = open_log()
    total = 0
    new_at = None                               # when a held file is to be left
    start = time.monotonic()
    while not wishes["stop"]:
        now = time.monotonic()
        if args.seconds and now - start >= args.seconds:
            break
        if new_at is None and (wishes["reopen"] if args.reopen == "signal" else
                               args.reopen == "inode" and not log.is_at(args.path)):
            wishes["reopen"] = False
            new_at = now + args.hold
        if new_at is not None and now >= new_at:
            new_at = None
            files[log.id.decode()] = log.lines
            log.close()
            log = open_log()
        due = int((now - start) * args.rate)
        if args.lines:
            due = min(due, args.lines)
        count = min(due - total, max(1, args.rate // 10))       # after a stall: catch up gently
        if count > 0:
            if lock >= 0:
                fcntl.flock(lock, fcntl.LOCK_SH)
            log.add(count)
            total += count
            if status >= 0:
                os.pwrite(status, _COUNT.pack(total), 0)
            if lock >= 0:
                fcntl.flock(lock, fcntl.LOCK_UN)
        if args.lines and total >= args.lines:
            break
        time.sleep(TICK)
    files[log.id.decode()] = log.lines
    log.close()
    print(json.dumps({"files": files, "reopened": opened - 1}), flush=True)


class Writer:
    """The program above, seen from a test.  The oracle learns what it wrote when it stops."""

    def __init__(self, path, oracle, workdir, name="w", rate=20000, block=4096, reopen="inode",
                 hold=0.0, lines=0, seconds=0.0):
        self.path = str(path)
        self.oracle = oracle
        self.status = os.path.join(workdir, f"writer-{name}.status")
        self.lock = os.path.join(workdir, f"writer-{name}.lock")
        for file in (self.status, self.lock):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
        command = [sys.executable, os.path.abspath(__file__), "--id", name, "--rate", str(rate),
                   "--block", str(block), "--reopen", reopen, "--hold", str(hold),
                   "--lines", str(lines), "--seconds", str(seconds),
                   "--status", self.status, "--lock", self.lock, self.path]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.report = None

    @property
    def pid(self):
        return self.process.pid

    @property
    def total(self):
        """Lines written up to now (perhaps not all flushed, where `block` is set)."""
        try:
            with open(self.status, "rb") as file:
                data = file.read(_COUNT.size)
        except FileNotFoundError:
            return 0
        return _COUNT.unpack(data)[0] if len(data) == _COUNT.size else 0

    def reopen(self):
        self.process.send_signal(signal.SIGUSR1)

    @contextlib.contextmanager
    def paused(self):
        """Nothing is written meanwhile, and what was is whole (with block=0)."""
        with open(self.lock, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def wait(self, timeout=120):
        """Until it ends by itself; gives the report."""
        if self.report is None:
            out, _ = self.process.communicate(timeout=timeout)
            assert self.process.returncode == 0, f"the writer failed: {self.process.returncode}"
            self.report = json.loads(out)
            self.oracle.wrote(self.report["files"])
        return self.report

    def stop(self):
        if self.report is None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
        return self.wait()

    def abandon(self):
        """Whatever state it is in, it ends; nothing is asserted."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout and not self.process.stdout.closed:
            self.process.stdout.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--id", default="w")
    parser.add_argument("--rate", type=int, default=20000)
    parser.add_argument("--lines", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--block", type=int, default=4096)
    parser.add_argument("--reopen", choices=("never", "signal", "inode"), default="inode")
    parser.add_argument("--hold", type=float, default=0.0)
    parser.add_argument("--status")
    parser.add_argument("--lock")
    try:
        run(parser.parse_args())
    except OSError as error:
        sys.exit(f"writer: {error.filename or ''}: {errno.errorcode.get(error.errno)}: {error}")


if __name__ == "__main__":
    main()
