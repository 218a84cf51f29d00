"""A file system as of another host: what is written there, inotify does not see here.

As a program (FUSE's server is a process of its own, or the test would wait for itself):

    python3 remote.py DIRECTORY MOUNTPOINT

It shows DIRECTORY, read-only, at MOUNTPOINT, says "mounted", and serves until SIGTERM.  It speaks
the kernel's protocol (linux/fuse.h) by itself, so that no library is needed."""
import ctypes
import errno
import os
import pathlib
import signal
import stat
import struct
import subprocess
import sys

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE = 1, 2, 3, 14, 15, 17, 18
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET = 25, 26, 27, 28, 29, 36, 42

ROOT = 1
DIRECT_IO = 1                                   # FOPEN_DIRECT_IO: nothing is cached here
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_DIRENT = struct.Struct("<QQII")


def attributes(fd, node):
    s = os.stat(fd)
    times = [divmod(t, 10 ** 9) for t in (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns)]
    return _ATTR.pack(node, s.st_size, s.st_blocks, *(t[0] for t in times),
                      *(t[1] for t in times), s.st_mode, s.st_nlink, s.st_uid, s.st_gid, 0, 4096, 0)


class Server:
    """One request after the other.  A node is the descriptor of what it stands for, which so keeps
    its inode number to itself."""

    def __init__(self, directory):
        self.nodes = {ROOT: os.open(directory, os.O_PATH | os.O_DIRECTORY)}

    def node(self, parent, name):
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.nodes[parent])
        number = os.stat(fd).st_ino
        if number in self.nodes:
            os.close(fd)
        else:
            self.nodes[number] = fd
        return number

    def handle(self, op, node, body):
        """The answer's body; OSError is an answer too."""
        if op == INIT:
            return struct.pack("<IIIIHHIIHHII", 7, 31, 0, 0, 8, 8, 4096, 1, 0, 0, 0, 0) + bytes(24)
        if op == LOOKUP:
            found = self.node(node, body.rstrip(b"\0"))
            return struct.pack("<QQQQII", found, 0, 0, 0, 0, 0) \
                + attributes(self.nodes[found], found)
        if op == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + attributes(self.nodes[node], node)
        if op in (OPEN, OPENDIR):
            flags = os.O_RDONLY | (os.O_DIRECTORY if op == OPENDIR else 0)
            fd = os.open(f"/proc/self/fd/{self.nodes[node]}", flags)
            return struct.pack("<QII", fd, DIRECT_IO if op == OPEN else 0, 0)
        if op == READ:
            fd, offset, size = struct.unpack_from("<QQI", body)
            return os.pread(fd, size, offset)
        if op == READDIR:
            fd, offset, size = struct.unpack_from("<QQI", body)
            return self.entries(fd, offset, size)
        if op in (RELEASE, RELEASEDIR):
            os.close(struct.unpack_from("<Q", body)[0])
            return b""
        if op == STATFS:
            return struct.pack("<5Q4I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0) + bytes(24)
        if op == FLUSH:
            return b""
        raise OSError(errno.ENOSYS, "")

    @staticmethod
    def entries(fd, offset, size):
        packed = b""
        for at, entry in enumerate(sorted(os.scandir(fd), key=lambda e: e.inode())):
            name = os.fsencode(entry.name)
            kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode) >> 12
            one = _DIRENT.pack(entry.inode(), at + 1, len(name), kind) + name
            one += bytes(-len(one) % 8)
            if at >= offset:
                if len(packed) + len(one) > size:
                    break
                packed += one
        return packed

    def serve(self, device):
        while True:
            try:
                request = os.read(device, 1 << 20)
            except OSError as e:
                if e.errno == errno.ENODEV:     # unmounted
                    return
                if e.errno in (errno.ENOENT, errno.EINTR):
                    continue
                raise
            _, op, unique, node, *_ = _IN.unpack_from(request)
            if op in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            error, body = 0, b""
            try:
                body = self.handle(op, node, request[_IN.size:])
            except OSError as e:
                error = -(e.errno or errno.EIO)
            try:
                os.write(device, _OUT.pack(_OUT.size + len(body), error, unique) + body)
            except OSError as e:
                if e.errno != errno.ENOENT:     # nobody waits for it any more
                    raise


def main(directory, mountpoint):
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if libc.mount(b"kinetail-test", os.fsencode(mountpoint), b"fuse", 0, options.encode()) < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("mounted", flush=True)
    Server(directory).serve(device)


class Remote:
    """The program above, seen from a test: `there` is the other host's side, `here` ours.

    OSError, with the reason, where FUSE is not to be had."""

    def __init__(self, place):
        self.there, self.here = pathlib.Path(place) / "there", pathlib.Path(place) / "here"
        self.there.mkdir()
        self.here.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), str(self.there), str(self.here)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "mounted\n":
            why = self.process.communicate()[1].strip().splitlines()
            raise OSError(why[-1] if why else "it does not start")

    def close(self):
        subprocess.run(["umount", "-l", str(self.here)], check=False)
        self.process.terminate()
        self.process.communicate()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except OSError as error:
        sys.exit(f"remote: {error}")
