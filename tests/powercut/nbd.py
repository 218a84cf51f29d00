"""A disk with a volatile cache, as an NBD server on a Unix socket.

QEMU killed alone loses nothing that its guest wrote: the host's page cache outlives it.  So the
disk itself must forget.  A write is answered at once and stands in the image; what the image held
before is kept until the guest says FLUSH (or wrote with FUA).  `cut()` then decides for every
sector written since, by itself and not in order, which of the versions it has had is the one that
the power left behind: old, new, or one between.  Sectors are never torn, as on real disks, but the
4096 bytes of a file system's block are eight of them.  Only what ext4 itself trusts to be written at
once stays whole: the first block, with its superblock across two sectors, and the blocks that steer
its journal.  With one of those torn it is not mounted, and e2fsck has to come; that is not what is
tested here.

The protocol is NBD's fixed newstyle, no more of it than QEMU's client speaks.
"""
import os
import socket
import struct
import threading

SECTOR = 512
BLOCK = 4096
_JOURNAL = bytes.fromhex("c03b3998")    # how a commit or a descriptor of jbd2 begins

_GREETING = struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", 3)      # fixed newstyle, no zeroes
_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_OPTION_REPLY_MAGIC, _REQUEST_MAGIC, _REPLY_MAGIC = 0x3e889045565a9, 0x25609513, 0x67446698
_OPT_EXPORT_NAME, _OPT_ABORT, _OPT_INFO, _OPT_GO = 1, 2, 6, 7
_REP_ACK, _REP_INFO, _REP_ERR_UNSUP = 1, 3, (1 << 31) + 1
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_HAS_FLAGS, _SEND_FLUSH, _SEND_FUA = 1, 4, 8
_FUA = 1
_EINVAL = 22


class Gone(Exception):
    """The client has hung up, or was cut off."""


class Disk:
    """One image, one client at a time."""

    def __init__(self, image, path):
        self.size = os.stat(image).st_size
        self.path = path
        self.flushes = self.writes = 0
        self._fd = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self._versions = {}                     # offset -> what was there since the last flush
        self._fuse = None                       # so many writes and flushes are answered still
        self.dead = threading.Event()           # no more are
        self._client = None
        self._listener = None

    def serve(self):
        """Waits in a thread of its own for one client, and serves it until it is gone."""
        self._fuse = None
        self.dead.clear()
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def fuse(self, count):
        """After so many more writes and flushes the disk answers no more: `dead` is set.  Moments
        at which something is in the cache are too short to be met by the clock."""
        self._fuse = count

    def cut(self, dice, survive):
        """To be called once the machine is dead: each sector that was not flushed keeps its last
        write with the probability `survive`, else any version it has had.  Gives how many there
        were and how many lost something."""
        self._thread.join()                     # what still stood in the socket was on its way
        lost = 0
        for offset, versions in self._versions.items():
            if dice.random() >= survive:
                left = dice.choice(versions[:-1])
                lost += left != versions[-1]
                os.pwrite(self._fd, left, offset)
        pending = len(self._versions)
        self._versions.clear()
        return pending, lost

    def close(self):
        os.close(self._fd)

    # the protocol

    def _run(self):
        self._client, _ = self._listener.accept()
        self._listener.close()
        try:
            self._negotiate()
            while True:
                self._serve_one()
        except (Gone, ConnectionError):
            pass
        finally:
            self._client.close()

    def _get(self, size):
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._client.recv_into(view)
            if not count:
                raise Gone
            view = view[count:]
        return data

    def _export(self):
        return struct.pack(">QH", self.size, _HAS_FLAGS | _SEND_FLUSH | _SEND_FUA)

    def _answer(self, option, kind, data=b""):
        head = _OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, kind, len(data))
        self._client.sendall(head + data)

    def _negotiate(self):
        self._client.sendall(_GREETING)
        self._get(4)                            # its flags: whatever it says, we know no others
        while True:
            _, option, size = _OPTION.unpack(self._get(_OPTION.size))
            self._get(size)
            if option == _OPT_EXPORT_NAME:
                self._client.sendall(self._export())
                return
            if option in (_OPT_GO, _OPT_INFO):
                self._answer(option, _REP_INFO, struct.pack(">H", 0) + self._export())
                self._answer(option, _REP_ACK)
                if option == _OPT_GO:
                    return
            elif option == _OPT_ABORT:
                self._answer(option, _REP_ACK)
                raise Gone
            else:
                self._answer(option, _REP_ERR_UNSUP)

    def _serve_one(self):
        magic, flags, kind, handle, offset, size = _REQUEST.unpack(self._get(_REQUEST.size))
        if magic != _REQUEST_MAGIC:
            raise Gone
        if kind in (_WRITE, _FLUSH) and self._fuse is not None:
            self._fuse -= 1
            if self._fuse < 0:
                self.dead.set()
                while True:
                    self._get(1)
        error, data = 0, b""
        if kind == _WRITE:
            self._write(offset, self._get(size), flags & _FUA)
        elif kind == _READ:
            data = os.pread(self._fd, size, offset)
        elif kind == _FLUSH:
            self.flushes += 1
            self._versions.clear()
        elif kind == _DISCONNECT:
            raise Gone
        else:
            error = _EINVAL
        self._client.sendall(_REPLY.pack(_REPLY_MAGIC, error, handle) + data)

    def _unit(self, offset, block):
        """How many bytes are kept or forgotten together; what was decided once stays so."""
        if offset in self._versions:
            return len(self._versions[offset][0])
        whole = offset % BLOCK == 0 and len(block) == BLOCK
        return BLOCK if whole and (offset == 0 or block[:4] == _JOURNAL) else SECTOR

    def _write(self, offset, data, durable):
        """Whole sectors, as QEMU writes them; FUA makes these durable and no others."""
        self.writes += 1
        old = None if durable else os.pread(self._fd, len(data), offset)
        at = 0
        while at < len(data):
            end = at + self._unit(offset + at, data[at:at + BLOCK])
            if durable:
                self._versions.pop(offset + at, None)
            else:
                self._versions.setdefault(offset + at, [old[at:end]]).append(bytes(data[at:end]))
            at = end
        os.pwrite(self._fd, data, offset)
