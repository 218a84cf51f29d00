"""A service that throttles, fails, vanishes, answers strangely.  The lines arrive all the same."""
import time

import pytest

from harness import eventually, flow


def ship(agent, oracle, w, wait_until_delivered, heal=None, **limits):
    """The common end: writing stops, everything arrives, the agent ends, the oracle speaks."""
    w.stop()
    if heal:
        heal()
    wait_until_delivered()
    agent.terminate()
    return oracle.expect(**limits)


def test_all_is_well(logs, agent, oracle, writer, wait_until_delivered):
    """No failure, one request in flight: each line once, and in order.  Several files at once."""
    agent.configure(flow(logs / "*.log", in_flight=1)).start()
    writers = [writer(logs / f"{n}.log", rate=5000, seconds=2) for n in range(4)]
    for w in writers:
        w.wait()
    wait_until_delivered()
    agent.terminate()
    verdict = oracle.expect(reordered=0)
    assert verdict.written > 30000
    assert agent.complaints() == []


def test_a_third_of_the_records_is_throttled(logs, agent, oracle, endpoint, writer,
                                             wait_until_delivered):
    """Only what failed is sent again: each line arrives once, though nearly every request fails
    in part."""
    endpoint.fault("partial", rate=0.3)
    agent.configure(flow(logs / "*.log")).start()
    w = writer(logs / "app.log", rate=5000)
    time.sleep(4)
    ship(agent, oracle, w, wait_until_delivered)


def test_single_records_fail_internally(logs, agent, oracle, endpoint, writer,
                                        wait_until_delivered):
    endpoint.fault("partial", rate=0.1, code="InternalFailure")
    agent.configure(flow(logs / "*.log")).start()
    w = writer(logs / "app.log", rate=5000)
    time.sleep(1.5)
    ship(agent, oracle, w, wait_until_delivered)


@pytest.mark.long
def test_down_for_twenty_seconds(logs, agent, oracle, endpoint, writer, wait_until_delivered):
    """The process is gone: connections are refused.  It says so, and not once a millisecond."""
    agent.configure(flow(logs / "*.log")).start()
    w = writer(logs / "app.log", rate=2000)
    wait_until_delivered(1000)
    endpoint.stop()
    time.sleep(20)
    agent.alive()
    told = agent.complaints()
    assert 1 <= len(told) <= 10, told
    assert f"127.0.0.1:{endpoint.port}" in "\n".join(told) or "onnect" in "\n".join(told), told
    endpoint.start()
    wait_until_delivered(w.total)
    ship(agent, oracle, w, wait_until_delivered, duplicated=4 * 500)


def test_down_by_and_by(logs, agent, oracle, endpoint, writer, wait_until_delivered):
    """Again and again, for short; connections are cut, requests of the moment are not stored or
    their answers are lost."""
    agent.configure(flow(logs / "*.log")).start()
    w = writer(logs / "app.log", rate=5000)
    for _ in range(4):
        time.sleep(0.6)
        endpoint.fault("down", for_ms=300)
        time.sleep(0.4)
    ship(agent, oracle, w, wait_until_delivered, duplicated=4 * 4 * 500)


@pytest.mark.parametrize("kind,more", [
    ("cut", {"at": 0.5}),
    ("cut", {"at": 0.0}),
    ("reset_after_store", {}),
    ("garbage", {"form": "binary"}),
    ("garbage", {"form": "truncated"}),
    ("garbage", {"form": "html"}),
    ("garbage", {"form": "empty"}),
    ("wrong_count", {"delta": -1}),
    ("wrong_count", {"delta": 1}),
], ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values())))
def test_stored_but_nobody_knows(logs, agent, oracle, endpoint, writer, wait_until_delivered, kind,
                                 more):
    """The body was stored, and the answer cannot be had: it is sent again, which makes the
    duplicates of that request, and no others."""
    strikes = 8
    endpoint.fault(kind, operation="PutRecords", rate=0.3, count=strikes, **more)
    agent.configure(flow(logs / "*.log", records=100)).start()
    w = writer(logs / "app.log", rate=4000)
    eventually(lambda: endpoint.stats()["faults_fired"].get(kind, 0) >= strikes, 40,
               what="the last strike", alive=agent.alive)
    verdict = ship(agent, oracle, w, wait_until_delivered, duplicated=strikes * 100)
    assert verdict.duplicated > 0
    print(f"{kind}: {verdict}")


@pytest.mark.parametrize("kind,more", [
    ("error", {"status": 500}),
    ("error", {"status": 503, "code": "ServiceUnavailable", "form": "html"}),
    ("error", {"status": 503, "form": "empty"}),
    ("error", {"status": 500, "form": "header"}),
    ("throttle", {}),
    ("throttle", {"code": "LimitExceededException"}),
    ("reset_before_store", {}),
], ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values())))
def test_refused_for_the_moment(logs, agent, oracle, endpoint, writer, wait_until_delivered, kind,
                                more):
    """Nothing was stored and the answer says so: no duplicates.  (A connection that is reset says
    nothing, but nothing was stored either.)"""
    endpoint.fault(kind, operation="PutRecords", rate=0.4, **more)
    agent.configure(flow(logs / "*.log", records=200)).start()
    w = writer(logs / "app.log", rate=4000)
    time.sleep(1)
    ship(agent, oracle, w, wait_until_delivered, heal=endpoint.heal)


@pytest.mark.parametrize("kind,more", [
    ("null_members", {}),
    ("extra_members", {}),
    ("slow", {"delay_ms": 100}),
    ("slow_body", {"chunk_bytes": 4000, "pause_ms": 5}),
    ("close", {}),
], ids=["null-members", "extra-members", "slow", "slow-body", "close"])
def test_strange_but_well(logs, agent, oracle, endpoint, writer, wait_until_delivered, kind, more):
    """Answers that are good, if one reads them as documented: each line arrives once."""
    endpoint.fault(kind, operation="PutRecords", **more)
    agent.configure(flow(logs / "*.log")).start()
    w = writer(logs / "app.log", rate=4000)
    time.sleep(1)
    ship(agent, oracle, w, wait_until_delivered)
    assert agent.complaints() == []


@pytest.mark.long
def test_no_answer(logs, agent, oracle, endpoint, quill, wait_until_delivered):
    """Connections that stay open and say nothing are given up, one request stored and one not;
    meanwhile others go past them."""
    endpoint.faults({"kind": "stall", "operation": "PutRecords", "count": 1},
                    {"kind": "stall_after_store", "operation": "PutRecords", "count": 1})
    agent.configure(flow(logs / "*.log")).start()
    q = quill(logs / "app.log").write(500)
    time.sleep(0.3)
    q.write(500)
    time.sleep(0.3)
    q.write(3000)
    wait_until_delivered(3500, timeout=10)
    wait_until_delivered(timeout=60)
    agent.terminate()
    fired = endpoint.stats()["faults_fired"]
    assert fired == {"stall": 1, "stall_after_store": 1}
    oracle.expect(duplicated=500)


def test_the_stream_is_missing(logs, agent, oracle, quill, wait_until_delivered):
    """Nothing is thrown away; it says what is missing and goes on by itself when it is there."""
    agent.configure(flow(logs / "*.log", stream="not-yet"), drain_timeout="200ms").start()
    quill(logs / "app.log").write(1000)
    line = agent.wait_log("ResourceNotFound")
    assert line.startswith(("<3>", "<4>")) and "not-yet" in line, line
    time.sleep(1)
    assert len(agent.complaints()) <= 2, agent.complaints()
    agent.terminate()
    agent.configure(flow(logs / "*.log", stream="s1"))
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_a_flow_that_waits_does_not_stop_another(logs, agent, oracle, quill,
                                                 wait_until_delivered):
    """Two flows: the one whose stream is missing waits, the other delivers."""
    (logs / "a").mkdir()
    (logs / "b").mkdir()
    agent.configure(flow(logs / "a/*.log", name="a", stream="missing"),
                    flow(logs / "b/*.log", name="b"), drain_timeout="200ms").start()
    (logs / "a/app.log").write_bytes(b"waits\n" * 100)
    quill(logs / "b/app.log").write(5000)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()
