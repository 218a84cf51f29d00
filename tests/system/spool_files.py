"""Segments of a spool, written as agent/keep/spool.h draws them: backlogs that no test has the time
to make by an outage."""
import hashlib
import struct

SEGMENT_BYTES = 32 << 20
SEED = 0x5eed5eed                       # the same everywhere, so that equal payloads have one checksum
WALL_MS = 1_700_000_000_000


def _table():
    found = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
        found.append(n)
    return found


_TABLE = _table()


def crc32c(seed, data):
    crc = ~seed & 0xffffffff
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xff] ^ crc >> 8
    return ~crc & 0xffffffff


class Payload:
    """What a frame has of records, made once and written often."""

    def __init__(self, flow, path, records):
        """`records`: (key, data) each."""
        flow, path = flow.encode(), str(path).encode()
        self.data = struct.pack("<H", len(flow)) + flow + struct.pack("<H", len(path)) + path
        self.data += b"".join(
            struct.pack("<HHIQQ", 0, len(key), len(data), n, n + 1) + key + data
            for n, (key, data) in enumerate(records))
        self.data += bytes(-len(self.data) % 8)
        self.records = len(records)
        self.crc = crc32c(SEED, self.data)


def header(name, number, first_serial):
    text = b"KTSPOOL1" + struct.pack("<IIQQ", 1, SEED, number, first_serial)
    text += hashlib.sha256(name.encode()).digest()[:8] + struct.pack("<QqI", 0, WALL_MS, 0)
    return text + struct.pack("<I", crc32c(0, text))


def frame(serial, at, payload):
    head = b"KTFR" + struct.pack("<IQQqIIIIi", 56 + len(payload.data), serial, at, WALL_MS,
                                 payload.records, 1, 0, payload.crc, 0)
    return head + struct.pack("<I", crc32c(SEED, head)) + payload.data


def footer(frames, records, at):
    text = b"KTEND\0\0\0" + struct.pack("<QQQI", frames, records, at, 0)
    return text + struct.pack("<I", crc32c(SEED, text))


def write_segment(folder, name, number, first_serial, payload, frames=None):
    """A whole, sealed segment of so many frames, or of as many as it has room for.  Gives the serial
    that the next one begins with."""
    if frames is None:
        frames = SEGMENT_BYTES // (56 + len(payload.data))
    with open(folder / f"spool-{number:016}.seg", "wb") as file:
        file.write(header(name, number, first_serial))
        for serial in range(first_serial, first_serial + frames):
            file.write(frame(serial, file.tell(), payload))
        file.write(footer(frames, frames * payload.records, file.tell()))
    return first_serial + frames


def pretend_segment(folder, name, number, first_serial):
    """The same seen from outside, and at a start: of one frame, which is a hole in a sparse file.
    Whoever reads it finds damage."""
    at = SEGMENT_BYTES
    with open(folder / f"spool-{number:016}.seg", "wb") as file:
        file.write(header(name, number, first_serial))
        file.seek(at)
        file.write(footer(1, 1, at))
    return first_serial + 1
