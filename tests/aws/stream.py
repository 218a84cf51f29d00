"""A Kinesis stream: shards, hash keys, sequence numbers, and the budgets of a shard.

Shards are never forgotten; a split or merge closes them.  `Stream.open_shards` is sorted by hash
range and always covers 0..2^128-1.
"""

import time
from array import array
from bisect import bisect_right
from hashlib import md5

HASH_KEYS = 1 << 128
MAX_RECORD_KIB = 1024       # the default of every stream; an administrator may raise it
CREATED_S = 1_700_000_000   # shards are born then: sequence numbers need an epoch, not the truth

# A sequence number is the decimal of 186 bits, as the service's are (56 digits): the marker 2, the
# birth of the shard, its low digit, the place in the shard, the second of arrival, the shard,
# version 2.  The place stands before the time, so numbers grow even if the clock steps back.
_PLACE_SHIFT = 80
_TIME_SHIFT = 36
_SHARD_SHIFT = 4
_PLACE_MASK = (1 << 64) - 1


def hash_of(key):
    return int.from_bytes(md5(key, usedforsecurity=False).digest(), "big")


class Limits:
    """What every shard takes per second; 0 is no limit.  False when nothing is limited."""

    def __init__(self, shard_bytes=0, shard_records=0):
        self.shard_bytes = shard_bytes
        self.shard_records = shard_records

    def __bool__(self):
        return bool(self.shard_bytes or self.shard_records)


class Bucket:
    """A token bucket of one second's worth, full when it is first asked; 0 per second: no limit.

    What is larger than the bucket passes when the bucket is full and leaves a debt, since the
    service lets large records burst and holds only the average."""

    def __init__(self):
        self._level = float("inf")
        self._at = 0.0

    def has(self, size, per_s):
        if not per_s:
            return True
        now = time.monotonic()
        self._level = min(per_s, self._level + (now - self._at) * per_s)
        self._at = now
        return self._level >= min(size, per_s)

    def take(self, size, per_s):
        if not self.has(size, per_s):
            return False
        self._level -= size if per_s else 0
        return True


class Budget:
    """What one shard takes per second."""

    def __init__(self, limits):
        self.limits = limits
        self._bytes, self._records = Bucket(), Bucket()

    def take(self, size):
        """True if the shard takes one more record of `size` bytes now."""
        return (not self.limits or self._records.has(1, self.limits.shard_records)
                and self._bytes.take(size, self.limits.shard_bytes)
                and self._records.take(1, self.limits.shard_records))


class Shard:
    def __init__(self, index, first_hash, last_hash, limits, parents=()):
        self.index = index
        self.id = "shardId-%012d" % index
        self.first_hash = first_hash
        self.last_hash = last_hash
        self.parents = parents          # ids: none, the split one, or the two merged ones
        self.count = 0                  # records ever stored; the last one's place
        self.trimmed = 0                # records forgotten again
        self.arrivals = array("Q")      # arrival numbers of the places after `trimmed`
        self.closed_s = None            # second of its end, None while it is open
        self.budget = Budget(limits)
        self._base = (2 << 184 | (CREATED_S + index) << 148 | (index & 15) << 144
                      | index << _SHARD_SHIFT | 2)

    def sequence(self, place, second):
        """The sequence number of the place-th record, which arrived at `second`."""
        return self._base + (place << _PLACE_SHIFT) + (int(second) << _TIME_SHIFT)

    def place_of(self, sequence):
        """The place that a sequence number names.  Raises ValueError if it is not of this shard."""
        number = int(sequence)
        shard = (number >> _SHARD_SHIFT) & 0xffffffff
        if shard != self.index or number >> 144 != self._base >> 144:
            raise ValueError(sequence)
        return (number >> _PLACE_SHIFT) & _PLACE_MASK

    def close(self):
        self.closed_s = time.time()

    def forget(self):
        self.trimmed = self.count
        self.arrivals = array("Q")

    def describe(self):
        numbers = {"StartingSequenceNumber": str(self.sequence(0, CREATED_S))}
        if self.closed_s is not None:
            numbers["EndingSequenceNumber"] = str(self.sequence(self.count + 1, self.closed_s))
        told = {"ShardId": self.id, "SequenceNumberRange": numbers,
                "HashKeyRange": {"StartingHashKey": str(self.first_hash),
                                 "EndingHashKey": str(self.last_hash)}}
        for member, parent in zip(("ParentShardId", "AdjacentParentShardId"), self.parents):
            told[member] = parent
        return told


class Stream:
    def __init__(self, name, arn, shard_count, limits, mode="PROVISIONED", auto=False,
                 max_record_kib=MAX_RECORD_KIB):
        self.name = name
        self.arn = arn
        self.mode = mode
        self.auto = auto                # the service spreads records itself, keys mean nothing
        self.max_record_kib = max_record_kib
        self.created_s = time.time()
        self.shards = []
        self._limits = limits
        self._turn = 0
        step = HASH_KEYS // shard_count
        for i in range(shard_count):
            last = HASH_KEYS if i == shard_count - 1 else (i + 1) * step
            self._add(i * step, last - 1)
        self._refresh()

    def shard_for(self, hash_key):
        """The open shard that owns a hash key; None (an AUTO stream's record) takes turns."""
        if hash_key is None:
            self._turn += 1
            return self.open_shards[self._turn % len(self.open_shards)]
        return self.open_shards[bisect_right(self._firsts, hash_key) - 1]

    def shard(self, shard_id):
        """The shard of that name, or None."""
        return next((shard for shard in self.shards if shard.id == shard_id), None)

    def describe_record(self, shard, place, second):
        """(shard, sequence number) of the place-th record of a shard, as texts."""
        shard = self.shards[shard]
        return shard.id, str(shard.sequence(place, second))

    def split(self, shard, at):
        """Cuts an open shard in two; `at` is the first hash key of the upper one."""
        shard.close()
        self._add(shard.first_hash, at - 1, (shard.id,))
        self._add(at, shard.last_hash, (shard.id,))
        self._refresh()

    def merge(self, lower, upper):
        """Makes one of two open neighbours."""
        lower.close()
        upper.close()
        self._add(lower.first_hash, upper.last_hash, (lower.id, upper.id))
        self._refresh()

    def _add(self, first_hash, last_hash, parents=()):
        self.shards.append(Shard(len(self.shards), first_hash, last_hash, self._limits, parents))

    def _refresh(self):
        self.open_shards = sorted((s for s in self.shards if s.closed_s is None),
                                  key=lambda shard: shard.first_hash)
        self._firsts = [shard.first_hash for shard in self.open_shards]
