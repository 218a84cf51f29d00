"""From bytes to records: lines, halves of lines, long lines, keys, and when a batch closes."""
import os
import time

import pytest

from harness import eventually, flow
from oracle import records

RECORD_MAX = 1 << 20            # data and key, in bytes, unless the stream was set to take more


# -- lines -------------------------------------------------------------------------------------

def test_half_lines_wait_for_their_other_half(logs, agent, oracle, quill, wait_until_delivered):
    """Written in pieces, slower than any linger: one record.  Also across a restart."""
    agent.configure(flow(logs / "*.log", linger="10ms")).start()
    q = quill(logs / "app.log")
    for n in range(6):
        text = q.next_line()
        for piece in (text[:1], text[1:20], text[20:-1], text[-1:]):
            q.raw(piece)
            time.sleep(0.03 if n else 0.3)
    wait_until_delivered()
    text = q.next_line()
    q.raw(text[:15])
    time.sleep(0.3)
    agent.terminate()                           # a half line is no reason to wait, or to send it
    agent.start()
    time.sleep(0.2)
    q.raw(text[15:-1])
    time.sleep(0.3)
    agent.kill()
    agent.start()
    assert oracle.poll() == 6 and oracle.torn == 0
    q.raw(text[-1:])
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_stdio_writes_blocks_not_lines(logs, agent, oracle, writer, wait_until_delivered):
    """Every write ends in the middle of a line, of a character, of anything."""
    agent.configure(flow(logs / "*.log", linger="5ms")).start()
    w = writer(logs / "app.log", rate=3000, block=61, seconds=1.5)
    w.wait()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_raw_means_raw(logs, agent, arrived):
    """Bytes as they stand: empty lines, carriage returns, zeros, what is not UTF-8."""
    texts = [b"", b"a", b"", b"", b"carriage return\r", b"a\x00", b"\xff\xfe\xfd", b" ", b"\t",
             bytes(range(1, 256)).replace(b"\n", b"") + b"\x00", "\U0001f426".encode(), b'{"a": "\\n"}']
    agent.configure(flow(logs / "*.log", in_flight=1)).start()
    (logs / "app.log").write_bytes(b"".join(t + b"\n" for t in texts))
    assert arrived(len(texts)) == texts


@pytest.mark.parametrize("newline", [False, True])
def test_newline(logs, agent, arrived, newline):
    agent.configure(flow(logs / "*.log", newline=newline, in_flight=1)).start()
    (logs / "app.log").write_bytes(b"one\ntwo\r\n\nthree\nhalf")
    end = b"\n" if newline else b""
    assert arrived(4) == [b"one" + end, b"two\r" + end, end, b"three" + end]
    time.sleep(0.3)
    agent.terminate()
    assert len(arrived_now(agent)) == 4


def arrived_now(agent):
    return records(agent.endpoint.record_file)


# -- long lines --------------------------------------------------------------------------------

def test_a_long_line_is_cut(logs, agent, arrived):
    """Cut on a UTF-8 boundary, with the suffix at its end, never larger than a record may be;
    its neighbours are whole; and it says so."""
    suffix = "\u2026[cut]"
    agent.configure(flow(logs / "*.log", key="const:k", truncated_suffix=suffix,
                         in_flight=1)).start()
    euro = "\u20ac" * 500_000                   # 1.5 million bytes
    shifted = "x" + euro
    (logs / "app.log").write_bytes(b"before\n" + euro.encode() + b"\nbetween\n" +
                                   shifted.encode() + b"\nafter\n")
    got = arrived(5)
    assert [got[0], got[2], got[4]] == [b"before", b"between", b"after"]
    for record, whole in ((got[1], euro), (got[3], shifted)):
        assert RECORD_MAX - 4 <= len(record) + len("k") <= RECORD_MAX
        text = record.decode()                  # valid UTF-8, or this raises
        assert text.endswith(suffix) and whole.startswith(text[:-len(suffix)])
    assert len(arrived_now(agent)) == 5
    eventually(lambda: agent.complaints("cut|truncat|too la|long"), 10, what="a word about it")


def test_a_line_of_just_the_size_is_whole(logs, agent, arrived):
    key = "k"
    agent.configure(flow(logs / "*.log", key=f"const:{key}", in_flight=1)).start()
    fits = b"f" * (RECORD_MAX - len(key))
    (logs / "app.log").write_bytes(fits + b"\n" + fits + b"!\n" + b"after\n")
    got = arrived(3)
    assert got[0] == fits
    assert len(got[1]) <= len(fits) and got[1] != fits
    assert got[2] == b"after"


def test_a_long_line_that_grows_slowly(logs, agent, arrived):
    """Larger than a record before its newline is there; still one record, and offsets go on after
    its end also over a restart."""
    agent.configure(flow(logs / "*.log", key="const:k", in_flight=1)).start()
    with open(logs / "app.log", "ab", buffering=0) as file:
        file.write(b"before\n")
        for _ in range(40):
            file.write(b"z" * 100_000)
            time.sleep(0.01)
        time.sleep(0.2)
        agent.terminate()
        agent.start()
        for _ in range(10):
            file.write(b"z" * 100_000)
        file.write(b"\nafter\n")
    got = arrived(3)
    time.sleep(0.3)
    agent.terminate()
    got = arrived_now(agent)
    assert [len(r) for r in got[:1] + got[2:]] == [6, 5] and got[2] == b"after", \
        [(len(r), r[:20]) for r in got]
    assert got[1].startswith(b"z" * 1_000_000) and len(got[1]) <= RECORD_MAX - 1


def test_many_long_lines(logs, agent, arrived):
    """Requests are limited in bytes, too: 10 MiB of lines of half a megabyte, and all arrive."""
    agent.configure(flow(logs / "*.log", in_flight=2)).start()
    texts = [bytes([65 + n]) * (500_000 + n) for n in range(20)]
    (logs / "app.log").write_bytes(b"".join(t + b"\n" for t in texts))
    got = arrived(len(texts))
    assert sorted(got) == texts
    assert agent.complaints() == []


# -- keys --------------------------------------------------------------------------------------

@pytest.fixture
def kept(endpoint, agent):
    """kept(n): n records as the endpoint keeps them, with key and shard."""
    def wait(count):
        eventually(lambda: endpoint.stats()["records_stored"] >= count,
                   what=f"the arrival of {count} records", alive=agent.alive)
        return endpoint.records()
    return wait


@pytest.mark.endpoint(keep="all")
@pytest.mark.parametrize("key,expected", [
    ("const:all the same", "all the same"),
    ("const:\u20ac\"\\quoted", "\u20ac\"\\quoted"),
    ("file", None),
], ids=["const", "const-escaped", "file"])
def test_keys(logs, agent, kept, key, expected):
    agent.configure(flow(logs / "*.log", key=key)).start()
    path = logs / 'a"b\\c.log'
    path.write_bytes(b"line\n" * 50)
    assert {record["key"] for record in kept(50)} == {expected or str(path)}


@pytest.mark.endpoint(keep="all")
def test_the_path_as_key_is_never_too_long(logs, agent, kept):
    """A key has 256 characters at most, and a path may have more.  It is still one and the same for
    all lines of the file."""
    deep = logs
    for _ in range(4):
        deep = deep / ("\u00e9" * 100)
    deep.mkdir(parents=True)
    agent.configure(flow(logs / "**/*.log", key="file")).start()
    (deep / "app.log").write_bytes(b"line\n" * 40)
    keys = {record["key"] for record in kept(40)}
    assert len(keys) == 1 and 200 < len(keys.pop()) <= 256


@pytest.mark.endpoint(keep="all")
def test_random_keys_spread(logs, agent, kept):
    agent.configure(flow(logs / "*.log")).start()
    (logs / "app.log").write_bytes(b"line\n" * 2000)
    found = kept(2000)
    assert len({record["key"] for record in found}) > 1000
    shards = [record["shard"] for record in found]
    for shard in set(shards):
        assert 350 < shards.count(shard) < 650, "four shards, 2000 records"
    assert len(set(shards)) == 4


# -- batches -----------------------------------------------------------------------------------

def requests(endpoint):
    """How many PutRecords it has had."""
    return endpoint.stats()["operations"].get("PutRecords", 0)


def test_a_batch_closes_by_records(logs, agent, endpoint, arrived):
    agent.configure(flow(logs / "*.log", linger="30s", records=10)).start()
    (logs / "app.log").write_bytes(b"line\n" * 105)
    arrived(100)
    time.sleep(0.2)
    assert (len(arrived_now(agent)), requests(endpoint)) == (100, 10)
    agent.terminate()                           # the five that linger are drained
    assert (len(arrived_now(agent)), requests(endpoint)) == (105, 11)


def test_a_batch_closes_by_bytes(logs, agent, endpoint, arrived):
    agent.configure(flow(logs / "*.log", linger="30s", size="1MiB", key="const:k")).start()
    full = (1 << 20) // 10_000                          # 10,000 bytes with the key
    (logs / "app.log").write_bytes((b"x" * 9_999 + b"\n") * (3 * full + 5))
    arrived(3 * full)
    time.sleep(0.2)
    assert (len(arrived_now(agent)), requests(endpoint)) == (3 * full, 3)
    agent.terminate()
    assert (len(arrived_now(agent)), requests(endpoint)) == (3 * full + 5, 4)


def test_a_batch_closes_by_linger(logs, agent, endpoint, arrived):
    agent.configure(flow(logs / "*.log", linger="600ms")).start()
    with open(logs / "app.log", "ab", buffering=0) as file:
        begin = time.monotonic()
        for _ in range(5):
            file.write(b"line\n")
            time.sleep(0.02)
        arrived(5)
        taken = time.monotonic() - begin
    assert 0.55 < taken < 2.5, taken
    assert requests(endpoint) == 1


def test_requests_are_full_when_there_is_much_to_do(logs, agent, endpoint, arrived):
    """A backlog goes out in requests of 500 records, whatever the linger."""
    (logs / "app.log").write_bytes(b"line\n" * 20_000)
    agent.configure(flow(logs / "*.log", linger="0ms")).start()
    arrived(20_000)
    agent.terminate()
    assert requests(endpoint) <= 45, "20,000 records fit 40 requests"
    assert os.path.getsize(endpoint.record_file) == 20_000 * (4 + len("line"))


def test_limits_of_the_service_hold_at_their_largest(logs, agent, oracle, writer, endpoint):
    """The endpoint refuses what is too large, as the service does: nothing is ever refused."""
    agent.configure(flow(logs / "*.log", records=500, size="10MiB")).start()
    with open(logs / "long.log", "wb") as file:
        for n in range(60):
            file.write(b"%c" % (65 + n % 26) * (n * 17_000) + b"\n")
    w = writer(logs / "app.log", rate=20000, seconds=1)
    w.wait()
    total = oracle.written
    eventually(lambda: oracle.poll() >= total and oracle.records >= total + 60, alive=agent.alive)
    agent.terminate()
    assert oracle.torn == 60 and oracle.duplicated == 0     # the 60 are no lines of the oracle's
    assert set(endpoint.stats()["outcomes"]) <= {"ok"}, endpoint.stats()
