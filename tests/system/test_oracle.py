"""The oracle itself: it must see each thing that can go wrong, and nothing where all is well."""
import os
import random
import time

import pytest

from oracle import Oracle, line, lines, pack, ranges
from writer import Writer

COUNT = 3000                    # past 997: long and empty payloads are among them


def judge(tmp_path, sequence, written=None):
    path = tmp_path / "records"
    path.write_bytes(b"".join(pack(r) for r in sequence))
    oracle = Oracle(path)
    oracle.wrote(written or {"a": COUNT})
    return oracle.verdict()


def all_lines():
    return [line(b"a", n) for n in range(COUNT)]


def counts(verdict):
    return (verdict.lost, verdict.duplicated, verdict.reordered, verdict.torn)


def test_lines_are_the_same_each_time_and_have_no_newline():
    assert all_lines() == all_lines()
    assert len(set(all_lines())) == COUNT
    assert not any(b"\n" in one for one in all_lines())
    assert lines(b"a", 5, 7) == line(b"a", 5) + b"\n" + line(b"a", 6) + b"\n"


STORIES = [
    # what happened to the lines on their way, and: lost, duplicated, reordered, torn
    ("all is well",            lambda r: r,                                   (0, 0, 0, 0)),
    ("one is lost",            lambda r: r[:700] + r[701:],                   (1, 0, 0, 0)),
    ("the first is lost",      lambda r: r[1:],                               (1, 0, 0, 0)),
    ("the last ten are lost",  lambda r: r[:-10],                             (10, 0, 0, 0)),
    ("one came twice",         lambda r: r[:9] + r[8:],                       (0, 1, 0, 0)),
    ("one came four times",    lambda r: r + [r[77]] * 3,                     (0, 3, 0, 0)),
    ("two changed places",     lambda r: [r[1], r[0]] + r[2:],                (0, 0, 1, 0)),
    ("a block came late",      lambda r: r[:50] + r[60:90] + r[50:60] + r[90:], (0, 0, 10, 0)),
    ("late and twice",         lambda r: [r[1], r[0]] + r,                    (0, 2, 1, 0)),
    ("a line in two pieces",   lambda r: [r[0][:30], r[0][30:]] + r[1:],      (1, 0, 0, 2)),
    ("two lines as one",       lambda r: [r[0] + r[1]] + r[2:],               (2, 0, 0, 1)),
    ("two with their newline", lambda r: [r[0] + b"\n" + r[1]] + r[2:],       (2, 0, 0, 1)),
    ("the newline came along", lambda r: [r[0] + b"\n"] + r[1:],              (1, 0, 0, 1)),
    ("a bit was flipped",      lambda r: [bytes([r[0][0] ^ 1]) + r[0][1:]] + r[1:], (1, 0, 0, 1)),
    ("its end is missing",     lambda r: [r[0][:-1]] + r[1:],                 (1, 0, 0, 1)),
    ("its start is missing",   lambda r: [r[0][1:]] + r[1:],                  (1, 0, 0, 1)),
    ("an empty record",        lambda r: r + [b""],                           (0, 0, 0, 1)),
    ("capital checksum",       lambda r: [r[0][:-8] + b"00abcdef"] + r[1:],   (1, 0, 0, 1)),
    ("never written",          lambda r: r + [line(b"a", COUNT + 5)],         (0, 0, 0, 1)),
    ("nobody's line",          lambda r: r + [line(b"stranger", 0)],          (0, 0, 0, 1)),
    ("nothing arrived",        lambda r: [],                                  (COUNT, 0, 0, 0)),
]


@pytest.mark.parametrize("happened,expected", [s[1:] for s in STORIES], ids=[s[0] for s in STORIES])
def test_it_sees(tmp_path, happened, expected):
    assert counts(judge(tmp_path, happened(all_lines()))) == expected


def test_order_is_asked_within_a_file_only(tmp_path):
    mixed = [line(name, n) for n in range(100) for name in (b"b", b"a")]
    assert counts(judge(tmp_path, mixed, {"a": 100, "b": 100})) == (0, 0, 0, 0)


def test_it_reads_as_the_file_grows_wherever_it_is_cut(tmp_path):
    path = tmp_path / "records"
    data = b"".join(pack(line(b"a", n)) for n in range(COUNT))
    oracle = Oracle(path)
    oracle.wrote({"a": COUNT})
    assert oracle.poll() == 0                           # it need not exist yet
    dice = random.Random(1)
    at = 0
    with open(path, "wb", buffering=0) as file:
        while at < len(data):
            step = dice.randint(1, 9000)
            file.write(data[at:at + step])
            at += step
            oracle.poll()
    assert oracle.wait(None, timeout=1) == COUNT
    assert counts(oracle.verdict()) == (0, 0, 0, 0)


def test_waiting_ends_and_says_what_is_missing(tmp_path):
    oracle = Oracle(tmp_path / "records")
    oracle.wrote({"a": 5})
    with pytest.raises(AssertionError, match="0 of 5 lines"):
        oracle.wait(None, timeout=0.1)
    with pytest.raises(RuntimeError):
        def dead():
            raise RuntimeError("the agent is dead")
        oracle.wait(None, timeout=30, alive=dead)


def test_ranges():
    assert ranges([1, 2, 3, 7]) == "1-3, 7"
    assert ranges([]) == ""


# -- the writer --------------------------------------------------------------------------------

def deliver(paths, record_file):
    """What a perfect agent would do with finished files."""
    with open(record_file, "wb") as out:
        for path in paths:
            with open(path, "rb") as file:
                data = file.read()
            assert data.endswith(b"\n")
            for one in data[:-1].split(b"\n"):
                out.write(pack(one))


@pytest.mark.parametrize("block", [0, 4096])
def test_the_writer_counts_what_it_writes(tmp_path, block):
    oracle = Oracle(tmp_path / "records")
    log = tmp_path / "log"
    writer = Writer(log, oracle, tmp_path, rate=20000, block=block, seconds=0.5)
    writer.wait()
    deliver([log], oracle.record_file)
    verdict = oracle.expect(reordered=0)
    assert 3000 < verdict.written == writer.total <= 10000


@pytest.mark.parametrize("reopen", ["signal", "inode"])
def test_the_writer_follows_a_rotation(tmp_path, reopen):
    oracle = Oracle(tmp_path / "records")
    log, old = tmp_path / "log", tmp_path / "log.1"
    writer = Writer(log, oracle, tmp_path, rate=5000, reopen=reopen, hold=0.1)
    while writer.total < 500:
        time.sleep(0.01)
    os.rename(log, old)
    before = old.stat().st_size
    if reopen == "signal":
        time.sleep(0.05)
        assert not log.exists()
        writer.reopen()
    while not log.exists():
        time.sleep(0.01)
    assert old.stat().st_size > before                  # it went on writing to the old one
    while log.stat().st_size == 0:
        time.sleep(0.01)
    report = writer.stop()
    assert report["reopened"] == 1 and set(report["files"]) == {"w.0", "w.1"}
    deliver([old, log], oracle.record_file)
    oracle.expect(reordered=0)


def test_a_paused_writer_writes_nothing(tmp_path):
    oracle = Oracle(tmp_path / "records")
    log = tmp_path / "log"
    writer = Writer(log, oracle, tmp_path, rate=20000, block=0)
    while writer.total < 500:
        time.sleep(0.01)
    with writer.paused():
        size = log.stat().st_size
        assert log.read_bytes().endswith(b"\n")
        time.sleep(0.1)
        assert log.stat().st_size == size
        count = writer.total
        assert log.read_bytes().count(b"\n") == count
    while writer.total <= count:
        time.sleep(0.01)
    writer.stop()
    deliver([log], oracle.record_file)
    oracle.expect(reordered=0)
