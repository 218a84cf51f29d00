"""Firehose: its own limits, its own words for trouble, and no keys.  What the real service would put
into a bucket is in test_third_party.py, how it can misbehave in test_misbehave.py."""
import base64
import json
import time

import pytest

from harness import eventually, flow
from oracle import LineOracle, records
from test_dead_letters import letters

RECORD_MAX = 1000 * 1024        # PutRecordBatch: of data, and there is no key
REQUEST_MAX = 4 << 20

pytestmark = pytest.mark.endpoint(streams=["d1:1"], arguments=["--delivery-stream=d1"])


@pytest.fixture
def firehose(logs):
    """firehose(**settings): a flow to the delivery stream d1."""
    return lambda **more: flow(logs / "*.log", delivery_stream="d1", **more)


@pytest.fixture
def oracle(endpoint):
    return LineOracle(endpoint.record_file)


def requests(endpoint):
    return endpoint.stats()["operations"].get("PutRecordBatch", 0)


def test_lines_end_in_newlines_unless_told_otherwise(logs, agent, firehose, arrived):
    agent.configure(firehose(in_flight=1)).start()
    (logs / "a.log").write_bytes(b"one\n\ntwo\r\n")
    assert arrived(3) == [b"one\n", b"\n", b"two\r\n"]
    agent.terminate()
    agent.configure(firehose(in_flight=1, newline=False)).start()
    with open(logs / "a.log", "ab") as file:
        file.write(b"three\n")
    assert arrived(4)[3:] == [b"three"]


def test_limits_hold_at_their_largest(logs, agent, oracle, writer, endpoint, firehose):
    """The endpoint refuses what is too large, as the service does: nothing is ever refused."""
    agent.configure(firehose(records=500, size=REQUEST_MAX)).start()
    long = sorted({RECORD_MAX + d for d in (-2, -1, 0, 1, 2)} | {n * 17_000 for n in range(1, 70)})
    with open(logs / "long.log", "wb") as file:
        for n, size in enumerate(long):
            file.write(b"%c" % (65 + n % 26) * size + b"\n")
    w = writer(logs / "app.log", rate=20000, seconds=1)
    w.wait()
    eventually(lambda: oracle.poll() + oracle.torn >= oracle.written + len(long), alive=agent.alive)
    agent.terminate()
    sizes = sorted(len(one) for one in records(endpoint.record_file) if one[:9] == one[:1] * 9)
    assert sizes == sorted(min(size + 1, RECORD_MAX) for size in long)
    assert oracle.torn == len(long) and oracle.duplicated == 0  # no lines of the oracle's
    assert set(endpoint.stats()["outcomes"]) <= {"ok"}, endpoint.stats()


def test_requests_are_full_when_there_is_much_to_do(logs, agent, endpoint, arrived, firehose):
    (logs / "app.log").write_bytes(b"line\n" * 20_000)
    agent.configure(firehose(linger="0ms")).start()
    arrived(20_000)
    agent.terminate()
    assert requests(endpoint) <= 45, "20,000 records fit 40 requests"


@pytest.mark.parametrize("settings", [
    {}, {"on_oversize": "split"}, {"on_oversize": "dead"}, {"newline": False},
    {"join": "lines", "join_bytes": "1000KiB"}, {"compress": "gzip", "on_oversize": "split"},
], ids=["truncate", "split", "dead", "bare", "joined", "gzip"])
def test_explain_shows_what_is_sent(logs, agent, arrived, firehose, settings):
    """Also where a line is longer than a record of Firehose may be, and not of Kinesis."""
    agent.configure(firehose(in_flight=1, linger="200ms", **settings))
    sizes = [5, RECORD_MAX - 1, RECORD_MAX, RECORD_MAX + 1, 1 << 20, (1 << 20) + 1, 3_000_000, 7]
    path = logs / "a.log"
    path.write_bytes(b"".join(bytes([65 + n]) * size + b"\n" for n, size in enumerate(sizes)))
    told = [json.loads(one) for one in agent.run("-c", agent.config_file, "explain", "--json",
                                                 path).stdout.splitlines()]
    assert "key" not in {name for one in told for name in one}
    shown = [base64.b64decode(one["record_base64"]) for one in told if one["outcome"] == "send"]
    dead = [base64.b64decode(one["record_base64"]) for one in told if one["outcome"] == "dead"]
    assert max(map(len, shown)) <= RECORD_MAX
    agent.start()
    got = arrived(len(shown))
    agent.terminate()
    assert [len(one) for one in got] == [len(one) for one in shown]
    if settings.get("on_oversize") == "split":  # parts are named after the machine and the file
        parted = [one for one in got if one.startswith(b'{"part"') or one[:2] == b"\x1f\x8b"]
        assert len(parted) >= 4
    else:
        assert got == shown
    if dead:
        assert [one["end"] - one["offset"] for one in letters(agent, "firehose:d1")] == \
            [size + 1 for size in sizes if size >= RECORD_MAX]
        assert len(dead) == len(letters(agent, "firehose:d1"))


def test_only_what_was_not_taken_is_sent_again(agent, logs, endpoint, oracle, quill, firehose,
                                               wait_until_delivered):
    """All of a request throttled inside a 200, some of it, the call itself: all arrive once."""
    agent.configure(firehose()).start()
    q = quill(logs / "app.log")
    for fault in ({"kind": "partial"}, {"kind": "partial", "rate": 0.3},
                  {"kind": "partial", "code": "InternalFailure", "rate": 0.5}, {"kind": "throttle"}):
        endpoint.faults({**fault, "operation": "PutRecordBatch", "count": 3})
        q.write(1500)
        wait_until_delivered()
    agent.terminate()
    assert oracle.expect().delivered == 6000
    told = agent.complaints("records not taken: ServiceUnavailableException: Slow down")
    assert told and "firehose:d1" in told[0] and "quota" in told[0], agent.log
    assert all(one.startswith("<4>") for one in agent.complaints()), agent.complaints()


def test_over_the_quota(agent, logs, endpoint, oracle, writer, firehose, wait_until_delivered):
    """More than the delivery stream takes: nothing is lost, and it is not asked much more often."""
    endpoint.call("POST", "delivery_budgets", {"stream_records": 1500, "stream_requests": 20})
    agent.configure(firehose()).start()
    w = writer(logs / "app.log", rate=6000, seconds=1)
    w.wait()
    wait_until_delivered()
    agent.terminate()
    assert oracle.expect().delivered == oracle.written


def test_what_a_person_must_mend_holds_everything(agent, logs, endpoint, oracle, quill, firehose,
                                                  wait_until_delivered):
    endpoint.fault("error", code="InvalidKMSResourceException", status=400, message="Key is disabled.")
    agent.configure(firehose()).start()
    quill(logs / "app.log").write(600)
    line = agent.wait_log("InvalidKMSResourceException")
    assert line.startswith("<3>") and "KMS key" in line and "firehose:d1" in line, line
    time.sleep(1)
    assert requests(endpoint) <= 5 and oracle.poll() == 0
    endpoint.heal()
    wait_until_delivered()
    agent.terminate()
    assert oracle.expect().delivered == 600


def test_a_delivery_stream_that_reads_a_kinesis_stream(agent, logs, endpoint, quill, oracle):
    """It refuses every request in the words of a wrong one; yet no record is to blame."""
    endpoint.call("POST", "delivery_streams", {"name": "d2", "kind": "KinesisStreamAsSource"})
    agent.configure(flow(logs / "*.log", delivery_stream="d2"), drain_timeout="200ms").start()
    quill(logs / "app.log").write(100)
    line = agent.wait_log("not permitted on KinesisStreamAsSource")
    assert line.startswith("<3>") and "Direct PUT" in line, line
    time.sleep(2)
    assert requests(endpoint) <= 5
    agent.terminate()
    assert not (agent.state_dir / "dead").exists()


def test_a_stream_of_the_same_name_is_another_place(agent, logs, arrived):
    """One agent, one file, a stream and a delivery stream both called d1, each with its dead letters."""
    parse = {"format": "csv", "fields": ["a", "b"], "on_mismatch": "dead"}
    agent.configure(flow(logs / "*.log", "k", "d1", parse=parse),
                    flow(logs / "*.log", "f", delivery_stream="d1", parse=parse)).start()
    (logs / "a.log").write_bytes(b"1,2\n1,2,3\n")
    assert sorted(arrived(2)) == [b'{"a":"1","b":"2"}', b'{"a":"1","b":"2"}\n']
    eventually(lambda: len(letters(agent, "d1") + letters(agent, "firehose:d1")) == 2,
               what="two dead letters", alive=agent.alive)
    assert [one["flow"] for one in letters(agent, "d1")] == ["k"]
    assert [one["flow"] for one in letters(agent, "firehose:d1")] == ["f"]


def test_kill_in_the_middle(agent, logs, endpoint, oracle, writer, firehose, dice,
                            wait_until_delivered):
    """Killed again and again under load, with answers lost: none lost, duplicates where it was."""
    endpoint.faults({"kind": "reset_after_store", "rate": 0.05},
                    {"kind": "partial", "rate": 0.05})
    agent.configure(firehose(records=100)).start()
    w = writer(logs / "app.log", rate=4000, seconds=3)
    for _ in range(6):
        time.sleep(dice.uniform(0.1, 0.6))
        agent.kill()
        agent.start()
    w.wait()
    endpoint.heal()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=None)


def test_what_was_spooled_is_sent_after_a_restart(agent, logs, endpoint, oracle, quill, firehose,
                                                  wait_until_delivered):
    """Records without a key come back from the disk as they went."""
    agent.configure(firehose(), spool={"patience": "100ms"}, drain_timeout="500ms").start()
    endpoint.stop()
    quill(logs / "app.log").write(2000)
    eventually(lambda: list((agent.state_dir / "spool").rglob("*")), what="a spool",
               alive=agent.alive)
    time.sleep(1)                               # all of it is read, and given up
    agent.terminate()
    (logs / "app.log").unlink()                 # what is on the disk is all there is
    endpoint.start()
    agent.start()
    wait_until_delivered()
    agent.terminate()
    assert oracle.expect().delivered == 2000
    assert (agent.state_dir / "spool" / "firehose:d1").is_dir()
