"""Records as large as the stream takes them: 1 MiB, or what DescribeStreamSummary says; who places
them; and what the agent does where nobody says anything."""
import gzip
import json
import re
import time

import pytest

from harness import eventually, flow
from oracle import records
from test_third_party import Server, free_port, third_party     # noqa: F401

MIB = 1 << 20
KEY_LEN = 8                             # of a random key, which counts towards a record's size
MARK = b"...(truncated)"
DESCRIBE = "DescribeStreamSummary"


def text(length, seed=0):
    """A line without its newline; a part that was left out would be missed."""
    numbered = b"".join(b"%08d:" % n for n in range(seed, seed + length // 9 + 1))
    return numbered[:length]


def raise_limit(endpoint, kib, name="s1"):
    endpoint.call("POST", "stream", {"name": name, "max_record_kib": kib})


def put(path, *lines):
    with open(path, "ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))


def short(found):
    """What a failed test shows."""
    return [(len(one), one[:20], one[-20:]) for one in found]


def expect(arrived, *wanted, timeout=60):
    found = arrived(len(wanted), timeout)
    assert sorted(found) == sorted(wanted), (short(found), short(wanted))


# -- large ones --------------------------------------------------------------------------------

def test_lines_up_to_ten_mebibytes_are_records(logs, agent, endpoint, arrived):
    """On each side of each limit, among short ones.  What even this stream does not take is cut."""
    raise_limit(endpoint, 10240)
    most = 10 * MIB - KEY_LEN
    lines = [b"first", text(MIB - KEY_LEN), text(MIB - KEY_LEN + 1), b"", text(3 * MIB, 7),
             text(most), b"between", text(most + 1), b"last"]
    put(logs / "app.log", *lines)
    agent.configure(flow(logs / "*.log")).start()
    lines[7] = lines[7][:most - len(MARK)] + MARK
    expect(arrived, *lines)
    assert len(agent.complaints("larger than a record may be")) == 1
    agent.wait_log("takes records of up to 10240 KiB")


def test_a_limit_between(logs, agent, endpoint, arrived):
    raise_limit(endpoint, 1500)
    most = 1500 * 1024 - KEY_LEN
    agent.configure(flow(logs / "*.log")).start()
    agent.wait_log("takes records of up to 1500 KiB")
    put(logs / "app.log", text(most), text(most + 1))
    found = sorted(arrived(2), key=lambda one: one.endswith(MARK))
    assert found[0] == text(most) and found[1] == text(most)[:-len(MARK)] + MARK, short(found)


@pytest.mark.endpoint(streams=("s1:1", "s2:1"))
def test_each_stream_has_its_own_limit(logs, agent, endpoint):
    """Two flows read the same file, in the same memory."""
    raise_limit(endpoint, 10240, "s2")
    lines = [text(5 * MIB), b"short", text(2 * MIB)]
    put(logs / "app.log", *lines)
    agent.configure(flow(logs / "*.log", name="a"),
                    flow(logs / "*.log", name="b", stream="s2")).start()
    found = eventually(lambda: (lambda r: r if len(r) >= 6 else None)(
        records(endpoint.record_file)), 60, alive=agent.alive)
    lengths = sorted(len(one) for one in found)
    assert lengths == [5, 5, MIB - KEY_LEN, MIB - KEY_LEN, 2 * MIB, 5 * MIB], lengths
    assert lines[0] in found and lines[2] in found


def test_what_is_made_of_them(logs, agent, endpoint, arrived):
    """JSON out of JSON, redacted; a record that grows past the stream's limit has its longest text cut."""
    raise_limit(endpoint, 10240)
    agent.configure(flow(logs / "*.log", parse={"format": "json"},
                         redact=[{"pattern": "secret=[a-z]+", "replace": "secret=*"}])).start()
    agent.wait_log("takes records of up to 10240 KiB")
    filler = text(6 * MIB).decode()
    put(logs / "app.log", json.dumps({"n": 1, "m": "secret=abc " + filler}).encode(),
        b'{"n": 2, "m": "' + filler.encode() + b'", "o": "' + b"\xff" * (3 * MIB // 2) + b'"}')
    found = sorted((json.loads(one) for one in arrived(2, 60)), key=lambda one: one["n"])
    assert found[0] == {"n": 1, "m": "secret=* " + filler}
    assert found[1]["n"] == 2 and found[1]["o"] == "\ufffd" * (3 * MIB // 2)
    assert found[1]["m"].endswith(MARK.decode())
    assert filler.startswith(found[1]["m"][:-len(MARK)])


def test_compressed_ones(logs, agent, endpoint, arrived):
    raise_limit(endpoint, 10240)
    agent.configure(flow(logs / "*.log", compress="gzip")).start()
    agent.wait_log("takes records of up to 10240 KiB")
    lines = [text(8 * MIB), b"short", text(3 * MIB, 5)]
    put(logs / "app.log", *lines)
    assert sorted(gzip.decompress(one) for one in arrived(3)) == sorted(lines)


def test_parts_of_ten_mebibytes(logs, agent, endpoint, arrived):
    """Longer still, and to be split: few parts, which put together are the line."""
    raise_limit(endpoint, 10240)
    agent.configure(flow(logs / "*.log", on_oversize="split")).start()
    agent.wait_log("takes records of up to 10240 KiB")
    line = text(25 * MIB)
    put(logs / "app.log", line, b"short")
    found = arrived(4, 60)
    parts = sorted((json.loads(one) for one in found if one != b"short"),
                   key=lambda part: part["part"])
    assert [part["last"] for part in parts] == [False, False, True]
    assert len({part["of"] for part in parts}) == 1
    assert "".join(part["text"] for part in parts).encode() == line


@pytest.mark.parametrize("kib", [1024, 10240])
def test_deep_in_a_compressed_generation(logs, agent, endpoint, kib):
    """Its end was found far behind its beginning, which is then not at hand any more."""
    raise_limit(endpoint, kib)
    (logs / "app.log").write_bytes(b"before\n")
    agent.configure(flow([str(logs / "app*")], size=MIB)).start()
    eventually(lambda: endpoint.stats()["records_stored"] == 1, alive=agent.alive)
    agent.terminate()
    (logs / "app.log").unlink()
    with gzip.open(logs / "app.log.1.gz", "wb", compresslevel=1) as file:
        file.write(b"before\n" + b"".join(b"%0999d\n" % n for n in range(15000))
                   + text(5 * MIB) + b"\n")
    (logs / "app.log").write_bytes(b"after\n")
    agent.start()
    eventually(lambda: endpoint.stats()["records_stored"] == 15003, 60, alive=agent.alive)
    found = [one for one in records(endpoint.record_file) if len(one) > 999]
    most = min(kib * 1024 - KEY_LEN, 5 * MIB)
    assert [len(one) for one in found] == [most], short(found)


def test_written_slowly(logs, agent, endpoint, arrived):
    """A line that comes in many pieces is looked at once, not once for each piece."""
    raise_limit(endpoint, 10240)
    agent.configure(flow(logs / "*.log")).start()
    agent.wait_log("takes records of up to 10240 KiB")
    line = text(9 * MIB)
    before = agent.cpu_seconds()
    with open(logs / "app.log", "ab", buffering=0) as file:
        for at in range(0, len(line), 16384):
            file.write(line[at:at + 16384])
            time.sleep(0.002)
        file.write(b"\n")
    assert arrived(1) == [line]
    print("CPU seconds:", agent.cpu_seconds() - before)


@pytest.mark.long
def test_their_memory_is_given_back(logs, agent, endpoint, arrived):
    """What the largest lines took is the machine's again when none has come for a while."""
    raise_limit(endpoint, 10240)
    agent.configure(flow(logs / "*.log", parse={"format": "json"}, add={"file": "${file}"},
                         in_flight=2)).start()
    agent.wait_log("takes records of up to 10240 KiB")
    put(logs / "app.log", *[b'{"n":%d}' % n for n in range(5000)])
    arrived(5000)
    before = agent.memory("VmRSS")
    put(logs / "app.log", *[json.dumps({"m": text(9 * MIB, n).decode()}).encode()
                            for n in range(4)])
    arrived(5004, 60)
    if agent.sanitized:
        return
    peak = agent.memory()
    # A batch keeps what its largest request took: its memory has a budget of its own.
    eventually(lambda: agent.memory("VmRSS") < before + 16 * MIB, 40,
               what=f"{before} bytes and a little", alive=agent.alive)
    assert peak > before + 10 * MIB             # else there was nothing to give back


# -- before the stream has said anything, or if it never does -----------------------------------

def test_a_large_line_waits_for_the_answer(logs, agent, endpoint, arrived):
    """The first line at the start is too large for any stream but this one, which answers late.  Only
    its own file waits."""
    raise_limit(endpoint, 10240)
    endpoint.fault("slow", operation=DESCRIBE, delay_ms=3000, count=1)
    put(logs / "large.log", text(2 * MIB), b"behind it")
    put(logs / "other.log", b"short")
    agent.configure(flow(logs / "*.log")).start()
    assert arrived(1, 2) == [b"short"]
    expect(arrived, b"short", text(2 * MIB), b"behind it")
    assert agent.complaints() == []


def test_a_limit_that_is_heard_of_at_the_third_try(logs, agent, endpoint, arrived):
    """The limit rises under a flow that is at work; what is to become a large record waits, too."""
    raise_limit(endpoint, 10240)
    endpoint.faults({"kind": "error", "operation": DESCRIBE, "count": 1},
                    {"kind": "garbage", "operation": DESCRIBE, "count": 1})
    put(logs / "app.log", b"[" + text(MIB - 200) + b"]", *[b"short"] * 3)
    agent.configure(flow(logs / "*.log", add={"padding": "x" * 600}, output="json")).start()
    found = arrived(4)
    assert {json.loads(one)["message"].encode() for one in found} == {
        b"[" + text(MIB - 200) + b"]", b"short"}
    agent.wait_log("takes records of up to 10240 KiB")
    assert agent.complaints() == []


@pytest.mark.parametrize("fault,said", [
    ({"kind": "error", "status": 400, "code": "AccessDeniedException"},
     "<4>.*AccessDeniedException.*1024 KiB.*allow kinesis:DescribeStreamSummary"),
    ({"kind": "error", "status": 400, "code": "UnknownOperationException"},
     "<6>.*UnknownOperationException.*1024 KiB"),
    ({"kind": "error", "status": 404, "form": "html"}, "<6>.*HTTP 404.*1024 KiB"),
], ids=["forbidden", "unknown", "no-such-page"])
def test_without_an_answer_records_are_as_always(logs, agent, endpoint, arrived, fault, said):
    raise_limit(endpoint, 10240)
    endpoint.faults({**fault, "operation": DESCRIBE})
    put(logs / "app.log", b"before", text(2 * MIB), b"behind")
    agent.configure(flow(logs / "*.log")).start()
    found = arrived(3, 5)
    assert sorted(len(one) for one in found) == [6, 6, MIB - KEY_LEN], short(found)
    line = agent.wait_log("does not say how large its records may be")
    assert re.search(said, line), line
    time.sleep(1)
    assert agent.log.count("does not say how large") == 1


@pytest.mark.parametrize("fault", [{"kind": "stall"}, {"kind": "slow_body"}, {"kind": "reset_before_store"},
                                   {"kind": "error"}, {"kind": "throttle"}, {"kind": "garbage"}],
                         ids=lambda fault: fault["kind"])
def test_nothing_waits_for_it_but_large_lines(logs, agent, endpoint, arrived, fault):
    endpoint.faults({**fault, "operation": DESCRIBE})
    agent.configure(flow(logs / "*.log")).start()
    begin = time.monotonic()
    put(logs / "app.log", *[b"line %d" % n for n in range(100)])
    arrived(100)
    assert time.monotonic() - begin < 3
    assert agent.complaints() == []
    agent.terminate()                   # which does not wait for an answer either


def test_a_large_line_does_not_keep_us_from_ending(logs, agent, endpoint):
    endpoint.fault("stall", operation=DESCRIBE)
    put(logs / "app.log", text(2 * MIB), b"behind")
    agent.configure(flow(logs / "*.log")).start()
    time.sleep(1)
    assert agent.terminate() < 5
    assert records(endpoint.record_file) == []
    endpoint.heal()
    raise_limit(endpoint, 2048)
    agent.start()
    found = eventually(lambda: (lambda r: r if len(r) >= 2 else None)(
        records(endpoint.record_file)), 30, alive=agent.alive)
    assert sorted(len(one) for one in found) == [6, 2 * MIB - KEY_LEN]


@pytest.mark.endpoint(streams=("s1:1",))
def test_it_is_asked_once_for_each_stream(logs, agent, endpoint, arrived):
    """Ten flows to one stream are one question."""
    for n in range(10):
        put(logs / f"{n}.log", b"line")
    agent.configure(*[flow(logs / f"{n}.log", name=f"f{n}") for n in range(10)]).start()
    arrived(10)
    time.sleep(1)
    assert endpoint.stats()["operations"][DESCRIBE] == 1


# -- who places records --------------------------------------------------------------------------

@pytest.mark.endpoint(streams=("s1:4:auto",), keep="all")
def test_streams_that_place_records_themselves(logs, agent, endpoint, arrived):
    agent.configure(flow(logs / "*.log", key="const:one")).start()
    agent.wait_log("stream s1: places records itself")
    put(logs / "app.log", *[b"line %d" % n for n in range(200)])
    arrived(200)
    found = endpoint.records()
    assert len({one["shard"] for one in found}) > 1
    assert {one["key"] for one in found} == {"one"}


# -- a server that others wrote ------------------------------------------------------------------

def test_kinesis_local_says_what_it_takes(logs, place, agent, third_party):   # noqa: F811
    """Its limit follows UpdateMaxRecordSize; records of that size can be read back."""
    port = free_port()
    programs = third_party / "node_modules"
    server = Server(third_party, place, "kinesis-local", port=port, ready="/healthcheck",
                    command=["node", programs / "kinesis-local/main.js"], env={
                        "KINESIS_MOCK_CERT_PATH": str(programs / "kinesis-local/server.json"),
                        "KINESIS_MOCK_PLAIN_PORT": str(port),
                        "KINESIS_MOCK_TLS_PORT": str(free_port()),
                        "CREATE_STREAM_DURATION": "50ms", "LOG_LEVEL": "WARN"})
    try:
        server.client("create", "s1", 1)
        server.client("enlarge", "s1", 4096)
        lines = [b"short", text(4 * MIB - KEY_LEN), text(2 * MIB)]
        put(logs / "app.log", *lines)
        agent.configure(flow(logs / "*.log"), endpoint=server.url).start()
        agent.wait_log("takes records of up to 4096 KiB")
        server.client("read", "s1", 3, place / "back.records")
        assert sorted(records(place / "back.records")) == sorted(lines)
        assert agent.complaints() == []
    finally:
        server.stop()
