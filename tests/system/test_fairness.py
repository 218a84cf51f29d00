"""Whoever is slow, or has much, is not in the way of others: shards, flows, the spool and what is
fresh, and many agents.  Rates and times are printed; what is asserted is who comes before whom, and
how much is asked of the service."""
import hashlib
import json
import time

import pytest

from harness import Agent, Quill, eventually, flow
from spool_files import Payload, SEGMENT_BYTES, pretend_segment, write_segment

SPOOL = {"patience": "1s", "min_free": "1MiB"}
SHARDS = 4


def shard_of(key):
    return int.from_bytes(hashlib.md5(str(key).encode()).digest(), "big") * SHARDS >> 128


@pytest.fixture
def by_shard(logs, quill):
    """Four files, the n-th one for shard n of the stream: with key = "file"."""
    found = {}
    n = 0
    while len(found) < SHARDS:
        path = logs / f"{n}.log"
        found.setdefault(shard_of(path), path)
        n += 1
    return [quill(found[shard]) for shard in range(SHARDS)]


def spooled(agent, name="s1"):
    return sum(p.stat().st_size for p in (agent.state_dir / "spool" / name).glob("spool-*.seg"))


def records_in_spool(agent):
    done = agent.run("queue", "list", "--json", "-c", agent.config_file)
    assert done.returncode == 0, done.stderr
    return sum(one.get("records", 0) for one in map(json.loads, done.stdout.splitlines()))


def puts(endpoint):
    return endpoint.stats()["operations"].get("PutRecords", 0)


def count_of(oracle, name):
    """How many lines of this file have arrived."""
    oracle.poll()
    seen = oracle._seen.get(name.encode(), b"")
    return len(seen) - seen.count(0)


# -- a shard that is too hot --

@pytest.mark.long
def test_a_hot_shard(logs, agent, oracle, endpoint, by_shard, wait_until_delivered):
    """One of four takes nothing for long: the lines of the others go by, nothing is dropped, what is
    hot is not tried all the time, and arrives when it has cooled."""
    agent.configure(flow(logs / "*.log", key="file", records=100), spool=SPOOL).start()

    def write_all():
        begin = time.monotonic()
        for _ in range(20):
            for q in by_shard:
                q.write(100)
            time.sleep(0.2)
        eventually(lambda: (oracle.poll(), all(oracle.saw(q.id.decode(), q.count)
                                               for q in by_shard[1:]))[1],
                   60, what="the arrival of what is not hot", alive=agent.alive)
        return time.monotonic() - begin

    cool = write_all()
    wait_until_delivered()
    before = endpoint.stats()
    endpoint.fault("partial", shard=0)
    hot = write_all()
    during = endpoint.stats()
    time.sleep(10)
    after = endpoint.stats()
    assert count_of(oracle, "q0") == 2000, "and nothing of what is hot"
    requests = during["requests"] - before["requests"]
    failed = during["records_failed"] - before["records_failed"]
    later = after["records_failed"] - during["records_failed"]
    asked = after["requests"] - during["requests"]
    print(f"the others' 6000 lines took {cool:.1f} s before, {hot:.1f} s beside a hot shard, with "
          f"{requests} requests, and each hot record was sent {failed / 2000:.1f} times; "
          f"{later / 2000:.1f} times in the next 10 s, with {asked} requests")
    assert requests < 6000 / 100 * 4 + 20 * hot
    assert asked < 10 * 10 and later < 2000 * 10
    endpoint.heal()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=0)


@pytest.mark.long
def test_a_hot_shard_does_not_stop_the_spool(logs, agent, oracle, endpoint, by_shard,
                                             wait_until_delivered):
    """A backlog for all shards, and one of them is hot when it is sent: what it does not take goes
    around in the spool, so that others get past."""
    agent.configure(flow(logs / "*.log", key="file", records=100),
                    spool={**SPOOL, "patience": "100ms"}).start()
    endpoint.fault("error", status=503)
    for _ in range(5):
        for q in by_shard:
            q.write(500)
    eventually(lambda: records_in_spool(agent) >= 9000, 90, step=0.5, what="all is in the spool",
               alive=agent.alive)
    endpoint.fault("partial", shard=0)
    begin = time.monotonic()
    eventually(lambda: (oracle.poll(), all(oracle.saw(q.id.decode(), q.count)
                                           for q in by_shard[1:]))[1],
               120, what="the arrival of what is not hot", alive=agent.alive)
    print(f"7500 lines of others left the spool in {time.monotonic() - begin:.1f} s, hot ones wait")
    assert count_of(oracle, "q0") == 0
    endpoint.heal()
    wait_until_delivered(timeout=90)
    agent.terminate()
    oracle.expect(duplicated=0)


# -- who shares a destination --

def test_two_flows_share_a_destination(logs, agent, oracle, endpoint, quill, wait_until_delivered):
    """One with a backlog, one with a line now and then: both flow, and no more is in flight than
    both together may have; when the service throttles, fewer."""
    big = quill(logs / "big.log")
    for _ in range(12):
        big.write(5000)
    endpoint.fault("slow", delay_ms=60)
    agent.configure(flow(logs / "big.log", name="big", records=100, in_flight=2),
                    flow(logs / "small.log", name="small", in_flight=2), spool=SPOOL).start()
    small = quill(logs / "small.log")
    eventually(lambda: count_of(oracle, "q0") > 1000, alive=agent.alive)
    endpoint.call("DELETE", "stats")

    def some_lines(count):
        waits = []
        for _ in range(count):
            small.write(1)
            begin = time.monotonic()
            eventually(lambda: (oracle.poll(), oracle.saw("q1", small.count))[1], 20,
                       what="a line beside a backlog", alive=agent.alive)
            waits.append(time.monotonic() - begin)
        return sum(waits) / count, max(waits)

    at = count_of(oracle, "q0")
    mean, worst = some_lines(20)
    assert count_of(oracle, "q0") > at, "the backlog has stopped"
    most = endpoint.stats()["in_flight_max"]
    assert most <= 2 + 2
    # Each large request has some that fail: the window for all (two flows, and 2 from the spool) is
    # at most half as wide.
    endpoint.faults({"kind": "slow", "delay_ms": 60}, {"kind": "partial", "rate": 0.3})
    time.sleep(1)
    endpoint.call("DELETE", "stats")
    at = count_of(oracle, "q0")
    slow_mean, slow_worst = some_lines(5)
    few = endpoint.stats()["in_flight_max"]
    print(f"a line beside a backlog takes {mean:.2f} s, {worst:.2f} s at most, {most} requests in "
          f"flight; throttled {slow_mean:.2f} s and {slow_worst:.2f} s, {few} in flight")
    assert few <= (2 + 2 + 2) // 2
    assert count_of(oracle, "q0") > at, "the backlog has stopped"
    assert count_of(oracle, "q0") < big.count, "there was no backlog to be beside"
    endpoint.heal()
    wait_until_delivered(timeout=90)
    agent.terminate()
    oracle.expect(duplicated=0)


@pytest.mark.long
def test_the_spool_and_what_is_fresh(logs, agent, oracle, endpoint, quill, wait_until_delivered):
    """A backlog in the spool and lines that come now: neither waits for the end of the other."""
    # Patience is longer than a line ever waits for its turn: or it would go to the spool's end.
    agent.configure(flow(logs / "*.log", records=500, in_flight=16),
                    spool={**SPOOL, "patience": "2s"}).start()
    endpoint.fault("error", status=503)
    old = quill(logs / "old.log")
    for _ in range(8):
        old.write(5000)
    eventually(lambda: records_in_spool(agent) >= 39000, 120, step=0.5, alive=agent.alive,
               what="all is in the spool")
    endpoint.fault("slow", delay_ms=400)
    eventually(lambda: count_of(oracle, "q0") > 0, 60, what="the spool is drained",
               alive=agent.alive)
    fresh = quill(logs / "fresh.log")
    waits = []
    at = count_of(oracle, "q0")
    for _ in range(10):                         # now and then
        fresh.write(1)
        begin = time.monotonic()
        eventually(lambda: (oracle.poll(), oracle.saw("q1", fresh.count))[1], 20,
                   what="a fresh line beside the spool", alive=agent.alive)
        waits.append(time.monotonic() - begin)
    now = count_of(oracle, "q0")
    assert at < now < old.count, (at, now, waits)
    flood = quill(logs / "flood.log")           # and more than goes through
    for _ in range(4):
        flood.write(5000)
    begin = time.monotonic()
    at, begun = now, None
    while (came := count_of(oracle, "q0")) < old.count and count_of(oracle, "q2") < flood.count:
        begun = begun or count_of(oracle, "q2") and came
        assert time.monotonic() - begin < 120, (came, count_of(oracle, "q2"))
        time.sleep(0.1)
    print(f"a fresh line beside the spool takes {sum(waits) / 10:.2f} s, {max(waits):.2f} s at most; "
          f"beside a flood of fresh ones {came - at} records left the spool while "
          f"{count_of(oracle, 'q2')} of these went")
    assert came > at and count_of(oracle, "q2") > 0
    endpoint.heal()
    wait_until_delivered(timeout=90)
    agent.terminate()
    oracle.expect(duplicated=0)


# -- a backlog of 20 GB --

SEGMENTS = (20 << 30) // SEGMENT_BYTES
REAL = 3                                # segments that have what they say; the rest is sparse
LINE = b"x" * 1000


@pytest.mark.long
def test_a_start_with_20_gb_in_the_spool(logs, agent, endpoint, quill, oracle):
    """The first request comes soon, and memory does not grow with what waits."""
    payload = Payload("f", logs / "gone.log", [(b"key%d" % n, LINE) for n in range(500)])
    folder = agent.state_dir / "spool" / "s1"
    folder.mkdir(parents=True, mode=0o700)
    agent.state_dir.chmod(0o700)
    folder.parent.chmod(0o700)
    per_segment = SEGMENT_BYTES // (56 + len(payload.data))
    last_first = 1 + REAL * per_segment + SEGMENTS - REAL - 1
    write_segment(folder, "s1", SEGMENTS, last_first, payload, frames=2)

    # An outage, so that the checkpoint knows of all frames, as it would.
    endpoint.fault("error", status=503)
    agent.configure(flow(logs / "*.log", records=100), memory_limit="36MiB",
                    spool={**SPOOL, "limit": "30GiB"}).start()
    quill(logs / "app.log").write(500)
    eventually(lambda: spooled(agent) > (56 + len(payload.data)) * 2 + 60_000,
               what="something in the spool", alive=agent.alive)
    time.sleep(1)
    agent.terminate(timeout=60)
    serial = 1
    for number in range(1, SEGMENTS):
        serial = write_segment(folder, "s1", number, serial, payload) if number <= REAL else \
            pretend_segment(folder, "s1", number, serial)
    assert serial == last_first and spooled(agent) > 19 << 30

    endpoint.heal()
    endpoint.call("DELETE", "stats")
    begin = time.monotonic()
    agent.start(wait=False)
    eventually(lambda: puts(endpoint), 60, step=0.005, what="the first request", alive=agent.alive)
    first = time.monotonic() - begin
    early = agent.memory("VmHWM")
    want = (REAL - 1) * per_segment * payload.records
    already = endpoint.stats()["records_stored"]
    eventually(lambda: endpoint.stats()["records_stored"] - already > want, 120,
               what="the first segments have arrived", alive=agent.alive)
    taken = time.monotonic() - begin
    peak = agent.memory("VmHWM")
    assert "damaged" not in agent.log and "missing" not in agent.log, agent.log
    print(f"{spooled(agent) >> 30} GB in {SEGMENTS} segments: the first request after {first:.2f} s, "
          f"{want} records in {taken:.1f} s; peak {early >> 20} MiB then, {peak >> 20} MiB later")
    agent.abandon()                     # the sparse ones are next
    if not agent.sanitized:
        assert peak < 56 << 20


# -- many agents --

AGENTS = 20


@pytest.mark.long
def test_many_agents_do_not_come_back_at_once(place, endpoint, oracle):
    """All have waited through the same outage with as much to send; then each comes when its dice
    say so."""
    agents, quills = [], []
    try:
        for n in range(AGENTS):
            folder = place / f"agent{n}"
            (folder / "logs").mkdir(parents=True)
            one = Agent(folder, endpoint)
            one.configure(flow(folder / "logs" / "*.log", records=100, in_flight=4)).start()
            agents.append(one)
            quills.append(Quill(folder / "logs" / "a.log", oracle, f"a{n}").write(10))
        oracle.wait(None, 60)
        endpoint.stop()
        for q in quills:
            q.write(1000)
        time.sleep(20)
        endpoint.start()
        begin = time.monotonic()
        counts = []
        for second in range(1, 4):
            time.sleep(max(0.0, begin + second - time.monotonic()))
            oracle.poll()
            counts.append((puts(endpoint), sum(count_of(oracle, f"a{n}") > 10
                                               for n in range(AGENTS))))
        came = [None] * AGENTS
        while None in came:
            for n in range(AGENTS):
                if came[n] is None and count_of(oracle, f"a{n}") == 1010:
                    came[n] = time.monotonic() - begin
            assert time.monotonic() - begin < 120
            time.sleep(0.1)
        print(f"{AGENTS} agents with {AGENTS * 10} requests to make: after 1, 2, 3 s "
              f"{', '.join(f'{r} requests of {a} agents' for r, a in counts)}; the middle one was "
              f"through after {sorted(came)[AGENTS // 2]:.1f} s, the last one after {max(came):.1f} s")
        assert counts[0][1] <= AGENTS // 2 and counts[0][0] <= AGENTS * 10 // 2
        for one in agents:
            one.terminate()
    finally:
        for one in agents:
            one.abandon()
        for q in quills:
            q.close()
    oracle.expect(duplicated=0)
