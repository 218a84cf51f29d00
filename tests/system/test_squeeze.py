"""Compressed records, as agent/record/squeeze.h makes them, read by Python's gzip and by zstd(1): readers
that share nothing with the libraries' own tests."""
import gzip
import os
import random
import shutil
import subprocess

import pytest

from harness import ROOT, SEED

PROGRAM = ROOT / os.environ.get("KT_BUILD", "build") / "unit" / "squeeze"
RECORDS = 40


def squeeze(kind, level, record):
    return subprocess.run([PROGRAM, kind, str(level)], input=record, stdout=subprocess.PIPE, check=True).stdout


def records():
    dice = random.Random(f"{SEED}/squeeze")
    yield b""
    yield b"\n"
    yield bytes(dice.randrange(256) for _ in range(3000))
    for n in range(RECORDS):
        yield b"".join(b"%d GET /%x\n" % (dice.randrange(n + 1), dice.getrandbits(64)) for _ in range(3 ** (n % 9)))


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_gzip(level):
    for record in records():
        packed = squeeze("gzip", level, record)
        assert gzip.decompress(packed) == record
        assert packed[:4] == b"\x1f\x8b\x08\x00" and packed[4:8] == bytes(4)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="there is no zstd(1)")
@pytest.mark.parametrize("level", [0, 1, 3, 19])
def test_zstd(level):
    for record in records():
        packed = squeeze("zstd", level, record)
        done = subprocess.run(["zstd", "-dcq"], input=packed, stdout=subprocess.PIPE, check=True)
        assert done.stdout == record
