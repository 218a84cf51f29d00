"""Keeps what was accepted, in arrival order, compactly enough for millions of log lines.

One accepted call becomes one Segment: the data of all its records in one bytes object, with arrays
beside it that say where each record ends.  Some 25 bytes per record instead of some 300 for a
tuple of Python objects.

The record file is the fast way out for oracles: `u32 little-endian length + data` per record, one
write per call, so whoever reads the file sees whole calls and needs no base64.
"""

import os
import sys
import threading
from array import array
from bisect import bisect_right
from itertools import accumulate, chain
from struct import pack


class Segment:
    """The records of one accepted call."""

    __slots__ = ("first", "stream", "wall_ms", "data", "keys", "data_ends", "key_ends", "shards",
                 "indexes")

    def __init__(self, first, stream, wall_ms, blobs, keys, shards, indexes):
        self.first = first                  # arrival number of its first record
        self.stream = stream
        self.wall_ms = wall_ms
        self.data = b"".join(blobs)
        self.keys = b"".join(keys)
        self.data_ends = array("I", accumulate(map(len, blobs)))
        self.key_ends = array("I", accumulate(map(len, keys)))
        self.shards = array("I", shards)    # index of the shard in the stream, per record
        self.indexes = array("Q", indexes)  # place of the record in its shard, from 1

    def __len__(self):
        return len(self.shards)

    def record(self, i):
        """(shard index, index in the shard, key bytes, data) of the i-th record."""
        data_start = self.data_ends[i - 1] if i else 0
        key_start = self.key_ends[i - 1] if i else 0
        return (self.shards[i], self.indexes[i], self.keys[key_start:self.key_ends[i]],
                self.data[data_start:self.data_ends[i]])


class Store:
    """All accepted records of all services.  Whoever calls holds `lock`."""

    def __init__(self, keep=True, record_file=None):
        self.lock = threading.RLock()
        self.keep = keep
        self.records = 0            # ever stored; also the last arrival number
        self.bytes = 0              # of data, ever stored
        self._segments = []
        self._firsts = []           # the segments' first numbers, to search in
        self._file = None
        if record_file is not None:
            self._file = os.open(record_file,
                                 os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def append(self, stream, wall_ms, blobs, keys, shards, indexes):
        """Stores the records of one call; returns the arrival number of the first."""
        first = self.records + 1
        self.records += len(blobs)
        self.bytes += sum(map(len, blobs))
        if self._file is not None and blobs:
            _write_all(self._file, b"".join(chain.from_iterable(
                (pack("<I", len(blob)), blob) for blob in blobs)))
        if self.keep and blobs:
            self._segments.append(Segment(first, stream, wall_ms, blobs, keys, shards, indexes))
            self._firsts.append(first)
        return first

    def find(self, number):
        """The segment that holds arrival number `number`, and the record's place in it."""
        segment = self._segments[bisect_right(self._firsts, number) - 1]
        return segment, number - segment.first

    def after(self, number):
        """The segments that hold arrivals behind `number`; a snapshot, later calls not included."""
        start = bisect_right(self._firsts, number)
        if start and number - self._firsts[start - 1] < len(self._segments[start - 1]) - 1:
            start -= 1
        return self._segments[start:]

    def clear(self):
        """Forgets the records, not how many there were: arrival numbers never come twice."""
        self._segments = []
        self._firsts = []


def _write_all(fd, data):
    """Or dies: a record file with a hole would make an oracle lie."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view):]
    except OSError as error:
        print("record file: write: %s; the endpoint ends here" % error, file=sys.stderr, flush=True)
        os._exit(1)
