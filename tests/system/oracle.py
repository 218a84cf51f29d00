"""The oracle: every line that was written against every record that arrived.

A line tells who wrote it, which one it is, and whether it is whole:

    <file-id> <seq> <payload> <crc32 of all before the last space, 8 hex digits>

One id stands for one physical file: a writer that opens a new file takes a new id, so that
order can be asked for within a file, where it is promised, and not across files, where it is
not.  Sequence numbers of an id begin at 0 and have no holes; `written` is then one number.

What arrived is judged record by record:

    torn        it is not exactly a written line
    duplicated  a line that had arrived before
    reordered   a line that arrives for the first time, after a later one of its file
    lost        a written line that never arrived

Records are read from the endpoint's record file: a little-endian u32 length and the raw data,
in the order of arrival.  The file is read as it grows; some millions of lines take seconds.
"""
import os
import random
import struct
import time
import zlib
from dataclasses import dataclass, field

_LENGTH = struct.Struct("<I")
_READ = 4 << 20
_SAMPLES = 5


# -- lines -------------------------------------------------------------------------------------

def _pool():
    """Bytes that logs have: mostly words, and what breaks naive shippers."""
    dice = random.Random(20131202)
    words = [w.encode() for w in (
        "GET", "/index.html", "HTTP/1.1", "200", "error:", "user=42", "\u20ac", "Gr\u00fc\u00dfe",
        "\u65e5\u672c\u8a9e", "\U0001f426", '"quoted"', "back\\slash", "tab\there", "{}", "[0]",
        "a=b", "\r", "\x1b[31m", "\x00", "+/=", "%s%n", "\u2028", "'")]
    words += [b"\xff\xfe", b"\xc3", b"\xe2\x82", b"\x80"]             # not UTF-8 at all
    parts = bytearray()
    while len(parts) < (1 << 16) + 8192:
        parts += dice.choice(words) if dice.random() < 0.25 else \
            bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=dice.randint(1, 11)))
        parts += b" "
    return bytes(parts)


_POOL = _pool()


def line(file_id: bytes, seq: int) -> bytes:
    """The line with this number, without its newline: the same whenever it is asked for."""
    mix = (seq * 2654435761) & 0xffffffff
    start = mix & 0xffff
    length = 60 + (mix >> 16) % 180
    if seq % 997 == 996:
        length = 6000                           # longer than a page, and than stdio's buffer
    elif seq % 101 == 100:
        length = 0
    head = b"%b %d %b" % (file_id, seq, _POOL[start:start + length])
    return b"%b %08x" % (head, zlib.crc32(head))


def lines(file_id: bytes, start: int, stop: int) -> bytes:
    """Lines start … stop - 1, each with its newline."""
    return b"".join([line(file_id, n) + b"\n" for n in range(start, stop)])


# -- the judge ---------------------------------------------------------------------------------

@dataclass
class Verdict:
    written: int = 0
    delivered: int = 0                          # different lines that arrived
    lost: int = 0
    duplicated: int = 0                         # arrivals beyond the first
    reordered: int = 0
    torn: int = 0
    samples: list = field(default_factory=list)

    def __str__(self):
        text = (f"written {self.written}, delivered {self.delivered}, lost {self.lost}, "
                f"duplicated {self.duplicated}, reordered {self.reordered}, torn {self.torn}")
        return "\n  ".join([text] + self.samples)


class Oracle:
    """Reads a record file as it grows and judges it."""

    def __init__(self, record_file):
        self.record_file = record_file
        self.records = 0
        self.delivered = 0
        self.duplicated = 0
        self.reordered = 0
        self.torn = 0
        self._seen = {}                         # id -> bytearray: arrivals of each line, to 255
        self._last = {}                         # id -> the highest number so far
        self._written = {}                      # id -> how many lines
        self._position = 0
        self._rest = b""
        self._samples = []

    # what was written

    def wrote(self, counts):
        """Adds {id: number of lines written}; the later word on an id replaces the earlier."""
        for file_id, count in counts.items():
            key = file_id.encode() if isinstance(file_id, str) else file_id
            self._written[key] = count

    @property
    def written(self):
        return sum(self._written.values())

    # what arrived

    def poll(self):
        """Judges what arrived since the last time; gives the number of different lines."""
        try:
            file = open(self.record_file, "rb")
        except FileNotFoundError:
            return self.delivered
        with file:
            file.seek(self._position)
            while chunk := file.read(_READ):
                self._position += len(chunk)
                self.feed(chunk)
        return self.delivered

    def feed(self, chunk):
        data = self._rest + chunk if self._rest else chunk
        at, end = 0, len(data)
        while at + 4 <= end:
            stop = at + 4 + _LENGTH.unpack_from(data, at)[0]
            if stop > end:
                break
            self.judge(data[at + 4:stop])
            at = stop
        self._rest = data[at:]

    def judge(self, record):
        self.records += 1
        head, _, check = record.rpartition(b" ")
        if check != b"%08x" % zlib.crc32(head):
            self._tear(record)
            return
        file_id, number, _ = head.split(b" ", 2)
        seq = int(number)
        seen = self._seen.get(file_id)
        if seen is None:
            seen = self._seen[file_id] = bytearray(4096)
            self._last[file_id] = -1
        if seq >= len(seen):
            seen.extend(bytes(max(seq + 1 - len(seen), len(seen))))
        times = seen[seq]
        if times:
            self.duplicated += 1
            if times < 255:
                seen[seq] = times + 1
            return
        seen[seq] = 1
        self.delivered += 1
        if seq > self._last[file_id]:
            self._last[file_id] = seq
        else:
            self.reordered += 1
            self._sample(f"reordered: {file_id.decode()} {seq} came after "
                         f"{self._last[file_id]} (record {self.records})")

    def _tear(self, record):
        self.torn += 1
        self._sample(f"torn: {len(record)} bytes, {record[:100]!r} … {record[-60:]!r}")

    def _sample(self, text):
        if len(self._samples) < _SAMPLES:
            self._samples.append(text)

    def wait(self, count, timeout=60.0, step=0.05, alive=None):
        """Until `count` different lines have arrived (or all that were written, for None).

        `alive` is called at each step; what it raises ends the waiting, so that a dead agent
        is told at once and not after the timeout."""
        wanted = self.written if count is None else count
        deadline = time.monotonic() + timeout
        while self.poll() < wanted:
            if alive is not None:
                alive()
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.delivered} of {wanted} lines arrived within "
                                     f"{timeout:g} s\n  {self.verdict()}")
            time.sleep(step)
        return self.delivered

    def saw(self, file_id, count):
        """Have the first `count` lines of this file arrived?"""
        seen = self._seen.get(file_id.encode(), b"")
        return len(seen) >= count and not seen.count(0, 0, count)

    def missing(self):
        """{id: [numbers]} of the lines that were written and did not arrive."""
        holes = {}
        for file_id, count in self._written.items():
            seen = self._seen.get(file_id, b"")
            if seen.count(0, 0, count) or len(seen) < count:
                numbers = [n for n in range(count) if n >= len(seen) or not seen[n]]
                if numbers:
                    holes[file_id] = numbers
        return holes

    def verdict(self):
        self.poll()
        samples = list(self._samples)
        torn = self.torn
        delivered = self.delivered
        for file_id, seen in self._seen.items():        # whole, and yet nobody wrote it
            foreign = len(seen) - seen.count(0) - sum(
                1 for n in seen[:self._written.get(file_id, 0)] if n)
            if foreign:
                torn += foreign
                delivered -= foreign
                samples.append(f"never written: {foreign} lines of {file_id.decode()}")
        lost = 0
        for file_id, numbers in self.missing().items():
            lost += len(numbers)
            samples.append(f"lost: {len(numbers)} of {self._written[file_id]} lines of "
                           f"{file_id.decode()}: {ranges(numbers)}")
        if self._rest:
            samples.append(f"the record file ends with {len(self._rest)} bytes of a record")
        return Verdict(self.written, delivered, lost, self.duplicated, self.reordered, torn,
                       samples)

    def expect(self, lost=0, duplicated=0, reordered=None, torn=0):
        """Asserts and gives the verdict.  None: it is counted, not limited."""
        verdict = self.verdict()
        for name, limit in (("lost", lost), ("duplicated", duplicated),
                            ("reordered", reordered), ("torn", torn)):
            if limit is not None:
                assert getattr(verdict, name) <= limit, f"{name} > {limit}: {verdict}"
        return verdict


class LineOracle(Oracle):
    """Of records that are whole lines, one or several, each with its newline: as Firehose needs them,
    which puts nothing between records."""

    def judge(self, record):
        if not record.endswith(b"\n"):
            self.records += 1
            self._tear(record)
            return
        for one in record[:-1].split(b"\n"):
            super().judge(one)


def ranges(numbers, most=6):
    """[1, 2, 3, 7] as "1-3, 7"."""
    runs = []
    for n in numbers:
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    text = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:most])
    return text + (f", … ({len(runs)} runs)" if len(runs) > most else "")


def pack(record: bytes) -> bytes:
    """One record as the record file has it."""
    return _LENGTH.pack(len(record)) + record


def records(path):
    """All records of a record file, as bytes, in order."""
    found = []
    if os.path.exists(path):
        with open(path, "rb") as file:
            data = file.read()
        at = 0
        while at + 4 <= len(data):
            stop = at + 4 + _LENGTH.unpack_from(data, at)[0]
            if stop > len(data):
                break
            found.append(data[at + 4:stop])
            at = stop
    return found
