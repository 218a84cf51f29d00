"""Rotation as Debian does it: logrotate itself, under a writer of 20,000 lines a second."""
import time

import pytest

from harness import PATIENCE, eventually, flow, have, logrotate
from oracle import ranges

RATE = 20000
ROTATIONS = 6
PAUSE = 0.7
LAG = 0.3                       # how far the agent may be behind a writer at this rate

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(have("logrotate") is None, reason="logrotate is not installed"),
]


def rotate(place, log, how, between=lambda: time.sleep(PAUSE)):
    for _ in range(ROTATIONS):
        between()
        logrotate(place, f'"{log}" {{\n  rotate 100\n  nocompress\n  {how}\n}}\n')
    between()


def check(agent, oracle, log, writer, wait_until_delivered, **limits):
    report = writer.stop()
    wait_until_delivered()
    agent.terminate()
    verdict = oracle.expect(**limits)
    assert verdict.written > RATE * PAUSE * ROTATIONS / 2, f"the writer was too slow: {verdict}"
    assert log.with_name(f"app.log.{ROTATIONS}").exists(), "logrotate did nothing"
    return report


@pytest.mark.parametrize("hold", [0.0, 0.25], ids=["", "writer-goes-on"])
def test_rename_and_the_writer_creates(place, logs, agent, oracle, writer, wait_until_delivered,
                                       hold):
    """nocreate: the path is missing until the writer notices; meanwhile, and for `hold` seconds
    more, it writes to the renamed file, whose name the glob does not match."""
    log = logs / "app.log"
    agent.configure(flow(logs / "*.log")).start()
    w = writer(log, rate=RATE, reopen="inode", hold=hold)
    rotate(place, log, "nocreate")
    report = check(agent, oracle, log, w, wait_until_delivered)
    assert report["reopened"] == ROTATIONS


def test_create_and_a_signal(place, logs, agent, oracle, writer, wait_until_delivered):
    """create: the new file is there before the writer is told.  One request in flight and no
    failure: nothing is reordered either."""
    log = logs / "app.log"
    agent.configure(flow(logs / "*.log", in_flight=1)).start()
    w = writer(log, rate=RATE, reopen="signal", hold=0.1)
    while not log.exists():
        time.sleep(0.01)
    rotate(place, log, f"create 0644\n  postrotate\n    kill -USR1 {w.pid}\n  endscript")
    report = check(agent, oracle, log, w, wait_until_delivered, reordered=0)
    assert report["reopened"] == ROTATIONS


def test_copytruncate_between_two_lines(place, logs, agent, oracle, writer, wait_until_delivered):
    """copytruncate loses by itself what is written between its copy and its truncation, and takes
    from under the agent what it has not read yet: the copy is another file, outside the glob.
    So here the writer is held between two lines, and everything has arrived, while logrotate
    works; then writing goes on at full speed.  Now nothing may be missing, and nothing may be
    taken for new that is not."""
    log = logs / "app.log"
    agent.configure(flow(logs / "*.log")).start()
    w = writer(log, rate=RATE, reopen="never", block=0)
    for _ in range(ROTATIONS):
        time.sleep(PAUSE)
        with w.paused():
            wait_until_delivered(w.total)
            logrotate(place, f'"{log}" {{\n  rotate 100\n  nocompress\n  copytruncate\n}}\n')
            assert log.stat().st_size == 0
    time.sleep(PAUSE)
    report = check(agent, oracle, log, w, wait_until_delivered)
    assert report["reopened"] == 0


def test_copytruncate_while_lines_are_written(place, logs, agent, oracle, writer):
    """The same as people do it, with nobody holding the writer.  Missing may be what was written
    while logrotate worked, and shortly before: nobody but logrotate could have kept it.
    Everything else arrives, once and whole."""
    log = logs / "app.log"
    agent.configure(flow(logs / "*.log")).start()
    w = writer(log, rate=RATE, reopen="never", block=0)
    eventually(log.exists, what="the log")
    windows = []
    for _ in range(ROTATIONS):
        time.sleep(PAUSE)
        begin = w.total - int(RATE * LAG * PATIENCE)
        logrotate(place, f'"{log}" {{\n  rotate 100\n  nocompress\n  copytruncate\n}}\n')
        windows.append(range(begin, w.total + RATE // 10))
    time.sleep(PAUSE)
    w.stop()
    arrived = -1
    while oracle.poll() > arrived:              # until nothing more comes
        arrived = oracle.delivered
        time.sleep(1 * PATIENCE)
    agent.terminate()
    verdict = oracle.expect(lost=None)
    missing = [n for numbers in oracle.missing().values() for n in numbers]
    outside = [n for n in missing if not any(n in window for window in windows)]
    assert not outside, f"lost outside of logrotate's windows: {ranges(outside)}\n  {verdict}"
    print(f"logrotate took {verdict.lost} lines in {ROTATIONS} rotations")
