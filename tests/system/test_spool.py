"""What cannot be delivered is kept on disk, and delivered later: in outages, at the end of a run,
after a crash, and when the files are gone."""
import os
import time

import pytest

from harness import eventually, flow

SPOOL = {"patience": "1s", "min_free": "1MiB"}


def segments(agent, name="s1"):
    folder = agent.state_dir / "spool" / name
    return sorted(folder.glob("spool-*.seg")) if folder.exists() else []


def spooled_bytes(agent, name="s1"):
    return sum(p.stat().st_size for p in segments(agent, name))


def wait_for_spool(agent, least=1, name="s1"):
    eventually(lambda: spooled_bytes(agent, name) >= least, 30, what="something in the spool",
               alive=agent.alive)


@pytest.fixture(params=["kinesis", "firehose"])
def to(request):
    """The two services, as settings of a flow."""
    return {} if request.param == "kinesis" else {"delivery_stream": "s1"}


def test_an_outage_is_spooled_and_drained(logs, agent, oracle, endpoint, quill,
                                          wait_until_delivered):
    """Patience is over: batches go to disk, reading goes on, and all of it arrives once."""
    agent.configure(flow(logs / "*.log", records=100), spool=SPOOL).start()
    q = quill(logs / "app.log").write(300)
    wait_until_delivered()
    endpoint.stop()
    q.write(5000)
    wait_for_spool(agent, 10000)
    endpoint.start()
    wait_until_delivered()
    q.write(300)
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=0)


def test_a_stop_spools_what_was_not_delivered(logs, agent, oracle, endpoint, quill,
                                              wait_until_delivered):
    """The drain is over: what is in batches is durable, and the files may go."""
    agent.configure(flow(logs / "*.log"), spool=SPOOL, drain_timeout="200ms").start()
    q = quill(logs / "app.log").write(100)
    wait_until_delivered()
    endpoint.stop()
    q.write(1000)
    time.sleep(0.5)
    assert agent.terminate() < 10
    assert segments(agent)
    q.close()
    os.unlink(q.path)
    endpoint.start()
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=0)


def test_a_crash_costs_no_more_than_what_was_on_its_way(logs, agent, oracle, endpoint, quill,
                                                        wait_until_delivered):
    """Killed in the middle of an outage, and in the middle of draining."""
    agent.configure(flow(logs / "*.log", records=100), spool=SPOOL).start()
    q = quill(logs / "app.log")
    for _ in range(5):
        endpoint.fault("error", status=503)
        q.write(3000)
        time.sleep(2)
        agent.kill()
        agent.start()
        endpoint.heal()
        time.sleep(0.15)
        agent.kill()
        agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=10 * 8 * 100)


def test_deleted_files_are_saved(logs, agent, oracle, endpoint, quill, wait_until_delivered):
    """held_limit is reached: what deleted files hold is read into the spool, not given up."""
    agent.configure(flow(logs / "*.log", held_limit="1MiB"), spool={**SPOOL, "patience": "10s"})
    agent.start()
    q = quill(logs / "app.log").write(100)
    wait_until_delivered()
    endpoint.stop()
    for _ in range(20):
        q.write(5000)
    q.close()
    time.sleep(0.5)
    os.unlink(q.path)
    agent.wait_log("read into the spool now")
    eventually(lambda: not [f for f in agent.open_files() if "deleted" in f and ".log" in f], 60,
               what="the deleted file is let go of", alive=agent.alive)
    agent.kill()
    endpoint.start()
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=0)


def test_a_busy_disk_is_not_a_full_one(logs, agent, oracle, endpoint, quill,
                                       wait_until_delivered):
    """Batches are made faster than they can be written, so all of them wait for the disk: that is no
    reason to give up the deleted file they are read from."""
    agent.configure(flow(logs / "*.log", records=10, held_limit="1MiB"), spool=SPOOL).start()
    q = quill(logs / "app.log").write(100)
    wait_until_delivered()
    endpoint.stop()
    for _ in range(20):
        q.write(2000)
    q.close()
    os.unlink(q.path)
    agent.wait_log("read into the spool now")
    eventually(lambda: "given up" in agent.log or "files are delivered" in agent.log,
               120, what="the deleted file is read", alive=agent.alive)
    assert "given up" not in agent.log
    endpoint.start()
    wait_until_delivered(timeout=120)
    agent.terminate()
    oracle.expect(duplicated=0)


def test_a_full_spool_waits(logs, agent, oracle, endpoint, quill, wait_until_delivered):
    """The limit is reached: reading stops, one line says so, and nothing is lost."""
    agent.configure(flow(logs / "*.log"), spool={**SPOOL, "limit": "2MiB"}).start()
    q = quill(logs / "app.log").write(100)
    wait_until_delivered()
    endpoint.stop()
    for _ in range(40):
        q.write(5000)
    agent.wait_log("spool.limit")
    time.sleep(3)
    assert spooled_bytes(agent) <= 2 << 20
    endpoint.start()
    wait_until_delivered(timeout=60)
    agent.terminate()
    oracle.expect(duplicated=0)


def test_the_oldest_go_if_they_are_told_to(logs, agent, oracle, endpoint, quill,
                                           wait_until_delivered):
    """when_full = "drop_oldest": loud, counted, and the newest arrive."""
    agent.configure(flow(logs / "*.log"),
                    spool={**SPOOL, "limit": "4MiB", "when_full": "drop_oldest"}).start()
    q = quill(logs / "app.log").write(100)
    wait_until_delivered()
    endpoint.stop()
    for _ in range(40):
        q.write(5000)
    agent.wait_log("DROPPED", timeout=90)
    endpoint.start()

    def settled():
        """All that was not dropped has arrived: the last line, and nothing more comes."""
        oracle.poll()
        lost = oracle.missing().get(b"q0", [q.count - 1])
        return lost and lost[-1] != q.count - 1 and not agent_is_behind()

    def agent_is_behind():
        before = oracle.delivered
        time.sleep(1)
        oracle.poll()
        return oracle.delivered != before

    eventually(settled, 90, what="the last line", alive=agent.alive)
    agent.terminate()
    told = agent.complaints("DROPPED")
    assert told
    verdict = oracle.expect(lost=None, duplicated=0)
    assert 0 < verdict.lost < verdict.written


def test_memory_is_bounded_by_its_limit(logs, agent, oracle, endpoint, quill,
                                        wait_until_delivered):
    """Twenty flows with long lines and no service: the budget holds."""
    flows = [flow(logs / f"{n}.log", name=f"f{n}", size="1MiB") for n in range(20)]
    agent.configure(*flows, spool={**SPOOL, "patience": "1h"}, memory_limit="64MiB").start()
    endpoint.stop()
    for n in range(20):
        q = quill(logs / f"{n}.log")
        for _ in range(40):
            q.write(2000)
    time.sleep(10)
    peak = agent.memory("VmHWM")
    endpoint.start()
    wait_until_delivered(timeout=120)
    peak = max(peak, agent.memory("VmHWM"))
    agent.terminate()
    oracle.expect(duplicated=0)
    if not agent.sanitized:
        assert peak < 72 << 20, f"{peak >> 20} MiB"


@pytest.mark.parametrize("how", ["no flow of the configuration sends there", "spool.limit is 0"])
def test_what_nobody_drains_is_said(logs, agent, oracle, endpoint, quill, wait_until_delivered, how):
    """A spool whose flow is gone from the configuration, or that is switched off, is not silent: each
    start says what waits there; and it goes out when it may."""
    agent.configure(flow(logs / "*.log"), spool=SPOOL, drain_timeout="200ms").start()
    q = quill(logs / "app.log").write(100)
    wait_until_delivered()
    time.sleep(0.5)  # and its answers have come
    endpoint.stop()
    q.write(1000)
    time.sleep(0.5)
    agent.terminate()
    assert segments(agent)
    assert not agent.complaints("are not sent")
    endpoint.start()
    if how.startswith("no flow"):
        agent.configure(flow(logs / "*.other", name="other", stream="s2"), spool=SPOOL)
    else:
        agent.configure(flow(logs / "*.log"), spool={**SPOOL, "limit": 0})
    agent.start()
    agent.wait_log(f"wait there and are not sent, as {how}")
    agent.terminate()
    assert segments(agent)
    agent.configure(flow(logs / "*.log"), spool=SPOOL).start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=0)
