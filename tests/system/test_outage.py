"""An outage of any length: the file is the queue, and memory stays what it was."""
import os
import time

import pytest

from harness import flow
from oracle import lines

MEGABYTES = 200


@pytest.mark.long
def test_memory_is_bounded(logs, agent, oracle, endpoint, quill, wait_until_delivered):
    """The service is gone while 200 MB are written; then all of it arrives, with the memory it
    had before."""
    agent.configure(flow(logs / "*.log")).start()
    q = quill(logs / "app.log").write(2000)
    wait_until_delivered()
    before = agent.memory("VmRSS")
    endpoint.stop()
    began = time.monotonic()
    while q.path.stat().st_size < MEGABYTES << 20:
        q.write(10000)
    time.sleep(max(0.0, began + 5 - time.monotonic()))
    during, cpu = agent.memory("VmRSS"), agent.cpu_seconds()
    time.sleep(2)
    idle = agent.cpu_seconds() - cpu
    endpoint.start()
    wait_until_delivered(timeout=180)
    peak = agent.memory("VmHWM")
    agent.terminate()
    oracle.expect(duplicated=4 * 500)
    print(f"RSS before {before >> 20} MiB, in the outage {during >> 20} MiB, peak {peak >> 20} MiB;"
          f" CPU while waiting {idle / 2:.1%}")
    if not agent.sanitized:
        assert peak < 48 << 20
        assert during < before + (24 << 20)
        assert idle < 0.3, "it waits, and does not try all the time"


def test_many_files_do_not_make_it_large(logs, agent, oracle, quill, wait_until_delivered):
    """A backlog in 300 files is read in turns: none is starved, and memory does not grow with
    their number."""
    for n in range(300):
        quill(logs / f"{n}.log").write(100).close()
    agent.configure(flow(logs / "*.log")).start()
    wait_until_delivered()
    peak = agent.memory("VmHWM")
    agent.terminate()
    oracle.expect()
    if not agent.sanitized:
        assert peak < 48 << 20, f"{peak >> 20} MiB"


def test_one_large_file_does_not_starve_the_others(logs, agent, oracle, quill, endpoint,
                                                   wait_until_delivered):
    """Fair turns: a line in a small file does not wait for 40 MB in a large one."""
    with open(logs / "large.log", "wb") as file:
        while file.tell() < 40 << 20:
            file.write(lines(b"large", 0, 5000))
    endpoint.fault("slow", delay_ms=100)            # 4 requests of 500 at a time: some minutes
    agent.configure(flow(logs / "*.log")).start()
    wait_until_delivered(5000)
    q = quill(logs / "small.log")
    for _ in range(3):
        q.write(1)
        begin = time.monotonic()
        while not oracle.saw("q0", q.count):
            assert time.monotonic() - begin < 10, "the small file is starved"
            oracle.poll()
            time.sleep(0.05)
    os.truncate(logs / "large.log", 0)              # enough: we need not wait for the rest
    agent.terminate(timeout=60)


def test_requests_take_no_memory_anew(logs, agent, oracle, quill, wait_until_delivered):
    """What one request used the next one uses, libcurl's buffers too: mapping and touching them anew
    for each costs half of what the lines cost."""
    agent.configure(flow(logs / "*.log", size="1MiB")).start()
    q = quill(logs / "app.log").write(20_000)       # all batches and connections have been used
    wait_until_delivered()
    before, requests = agent.page_faults(), 0
    while requests < 100:
        requests += 20
        q.write(20 * 500)
        wait_until_delivered()
    each = (agent.page_faults() - before) / requests
    agent.terminate()
    oracle.expect()
    print(f"{each:.1f} page faults per request")
    if not agent.sanitized:
        assert each < 20
