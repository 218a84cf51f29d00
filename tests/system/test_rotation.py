"""Files that move, shrink, vanish and come again, one case at a time."""
import os
import time

import pytest

from harness import flow, have, logrotate, same_inode_again


@pytest.fixture
def log(logs):
    return logs / "app.log"


@pytest.mark.skipif(have("logrotate") is None, reason="logrotate is not installed")
@pytest.mark.parametrize("start", ["start", "end"])
def test_three_rotations_while_stopped(place, logs, log, agent, oracle, quill,
                                       wait_until_delivered, start):
    """app.log.1 .2 .3 are outside the glob; two of them the agent has never seen, one it knows
    under another name.  What was rotated before its first start is none of its business."""
    old = logs / "app.log.1"
    old.write_bytes(b"from before our time\n" * 100)
    agent.configure(flow(logs / "*.log", start=start)).start()
    q = quill(log).write(1000)
    wait_until_delivered()
    agent.terminate()

    for _ in range(3):
        q.write(500)
        logrotate(place, f'"{log}" {{\n  rotate 100\n  nocompress\n  create 0644\n}}\n')
        q = quill(log).write(700)
    assert (logs / "app.log.4").read_bytes().startswith(b"from before our time")
    agent.start()
    wait_until_delivered()
    q.write(100)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_rotation_while_stopped_then_restarted_twice(logs, log, agent, oracle, quill,
                                                     wait_until_delivered):
    """A restart in the middle of the catching up forgets nothing of the old names."""
    agent.configure(flow(logs / "*.log", records=50, in_flight=1)).start()
    q = quill(log).write(200)
    wait_until_delivered()
    agent.terminate()
    q.write(30000)
    q.rename(logs / "app.log.1")
    quill(log).write(100)
    agent.start()
    wait_until_delivered(2000)
    agent.kill()
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=50 * 2)


def test_the_writer_goes_on_with_the_renamed_file(logs, log, agent, oracle, quill,
                                                  wait_until_delivered):
    agent.configure(flow(logs / "*.log")).start()
    old = quill(log).write(500)
    wait_until_delivered()
    old.rename(logs / "app.log.1")
    new = quill(log).write(10)
    for _ in range(20):
        old.write(25)
        new.write(25)
        time.sleep(0.05)
    half = old.next_line()
    old.raw(half[:20])
    time.sleep(0.3)
    old.raw(half[20:])
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_a_backlog_is_read_to_its_end_after_the_rename(logs, log, agent, oracle, quill, endpoint,
                                                       wait_until_delivered):
    """Renamed twice while the service is down, and far from read."""
    agent.configure(flow(logs / "*.log")).start()
    endpoint.fault("error", for_ms=1500)
    for n in range(3):
        q = quill(log).write(15000)
        time.sleep(0.2)
        if n < 2:
            if (logs / "app.log.1").exists():
                os.rename(logs / "app.log.1", logs / "app.log.2")
            q.rename(logs / "app.log.1")
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_renamed_to_a_name_in_the_glob(logs, log, agent, oracle, quill, wait_until_delivered):
    """It is the same file under either name, running or not."""
    agent.configure(flow(logs / "app.log*")).start()
    q = quill(log).write(500)
    wait_until_delivered()
    q.rename(logs / "app.log.1")
    quill(log).write(500)
    q.write(100)
    wait_until_delivered()
    agent.terminate()
    os.rename(logs / "app.log.1", logs / "app.log.2")
    os.rename(log, logs / "app.log.1")
    quill(log).write(500)
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_truncated_and_written_again(logs, log, agent, oracle, quill, wait_until_delivered):
    """Shorter than before, longer than before, and at once."""
    agent.configure(flow(logs / "*.log")).start()
    quill(log).write(1000)
    wait_until_delivered()
    for count in (10, 5000, 1, 3000):
        os.truncate(log, 0)
        quill(log).write(count)
        wait_until_delivered()
    agent.terminate()
    oracle.expect()


@pytest.mark.parametrize("count", [10, 400, 5000])
def test_truncated_while_stopped(logs, log, agent, oracle, quill, wait_until_delivered, count):
    """The tail anchor tells "refilled past the old end" from "appended"."""
    agent.configure(flow(logs / "*.log")).start()
    quill(log).write(400)
    wait_until_delivered()
    agent.terminate()
    os.truncate(log, 0)
    quill(log).write(count)
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_deleted_while_it_is_written(logs, log, agent, oracle, quill, wait_until_delivered):
    """A file without a name is read to its end, as long as somebody writes to it."""
    agent.configure(flow(logs / "*.log")).start()
    q = quill(log).write(500)
    wait_until_delivered()
    os.unlink(log)
    q.write(500)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_deleted_with_a_backlog(logs, log, agent, oracle, quill, endpoint, wait_until_delivered):
    agent.configure(flow(logs / "*.log")).start()
    endpoint.fault("error", for_ms=1500)
    quill(log).write(20000).close()
    time.sleep(0.5)
    os.unlink(log)
    quill(log).write(100)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_a_deleted_file_is_let_go(logs, log, agent, oracle, quill, wait_until_delivered):
    """Its space comes back once it is read, settled and nobody writes to it."""
    agent.configure(flow(logs / "*.log")).start()
    q = quill(log).write(500)
    wait_until_delivered()
    q.close()
    os.unlink(log)
    deadline = time.monotonic() + 60
    while any("app.log" in name for name in agent.open_files()):
        assert time.monotonic() < deadline, agent.open_files()
        time.sleep(0.2)
    agent.terminate()
    oracle.expect()


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("count", [20, 3000], ids=["shorter", "longer"])
def test_the_same_inode_again(logs, log, agent, oracle, quill, wait_until_delivered, running,
                              count):
    agent.configure(flow(logs / "*.log")).start()
    quill(log).write(500).close()
    wait_until_delivered()
    if not running:
        agent.terminate()
        if not same_inode_again(log):
            pytest.skip("this file system does not give an inode out again")
    else:
        same_inode_again(log)               # the agent may hold the old one: then it is another
    quill(log).write(count)
    if not running:
        agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_replaced_by_rename(logs, log, agent, oracle, quill, wait_until_delivered):
    """Written elsewhere, then moved over the path: the old content is read, and the new."""
    agent.configure(flow(logs / "*.log")).start()
    quill(log).write(500)
    wait_until_delivered()
    quill(logs / "next.tmp").write(800)
    os.rename(logs / "next.tmp", log)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()
