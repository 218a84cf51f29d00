"""memory_limit: a fixed budget for all flows, whatever the logs and the service do."""
import time

import pytest

from harness import eventually, flow

LIMIT = 64 << 20


def large_lines(path, count, size):
    with open(path, "ab") as file:
        for n in range(count):
            file.write(b"%d " % n + b"x" * (size - 20) + b"\n")


@pytest.mark.parametrize("spool", [{"patience": "1s", "min_free": "1MiB"}, {"limit": 0}],
                         ids=["spool", "no spool"])
def test_large_records_many_files_and_a_dead_service(logs, agent, endpoint, oracle, quill, spool,
                                                     wait_until_delivered):
    """Twenty flows with lines of a megabyte, 10,000 files, and nobody who takes anything."""
    flows = []
    for n in range(20):
        large_lines(logs / f"large{n}.log", 12, 1000 << 10)
        flows.append(flow(logs / f"large{n}.log", name=f"large{n}", stream="s1"))
    many = logs / "many"
    many.mkdir()
    for n in range(10000):
        (many / f"{n}.log").write_bytes(b"a line of file %d\n" % n * 3)
    flows.append(flow(many / "*.log", name="many", stream="s1"))
    endpoint.fault("error", status=503)
    agent.configure(*flows, spool=spool).start()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(1)
        agent.alive()
    dead = agent.memory("VmHWM")
    endpoint.heal()
    q = quill(logs / "large0.log").write(1)             # behind all that is in its file
    eventually(lambda: (oracle.poll(), oracle.saw("q0", q.count))[1], 120, what="the last line",
               alive=agent.alive)
    peak = agent.memory("VmHWM")
    agent.terminate(timeout=60)
    print(f"peak {dead >> 20} MiB while the service was dead, {peak >> 20} MiB in all")
    if not agent.sanitized:
        assert peak <= LIMIT, f"{dead >> 20}, then {peak >> 20} MiB"
