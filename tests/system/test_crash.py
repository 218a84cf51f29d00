"""kill -9 at any moment: nothing is lost, and little is sent twice."""
import os
import threading
import time

import pytest

from harness import flow

KILLS = int(os.environ.get("KT_KILLS", "200"))
RECORDS = 200
IN_FLIGHT = 4
WINDOW = (IN_FLIGHT + 1) * RECORDS      # all that can be in flight, and the batch that fills
RATE = 8000


class Rotator(threading.Thread):
    """Renames the log every so often, as logrotate with nocreate does; the writer follows."""

    def __init__(self, log, dice):
        super().__init__(daemon=True)
        self.log = log
        self.dice = dice
        self.rotations = 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(self.dice.uniform(0.2, 1.5)):
            if self.log.exists():
                self.rotations += 1
                os.rename(self.log, self.log.with_name(f"{self.log.name}.{self.rotations}"))

    def stop(self):
        self.done.set()
        self.join()


@pytest.mark.long
def test_killed_at_random_moments(logs, agent, oracle, writer, wait_until_delivered, dice):
    """Under load and rotation, also while it starts.  Duplicates are attributed to the kill they
    follow.  What one kill leaves in flight may reach the endpoint a moment after we looked, so
    a single kill is allowed two windows, and all of them together one each."""
    log = logs / "app.log"
    agent.configure(flow(logs / "*.log", records=RECORDS, in_flight=IN_FLIGHT))
    agent.start()                       # the first start: from here on nothing may be missed
    w = writer(log, rate=RATE, hold=0.05)
    rotator = Rotator(log, dice)
    rotator.start()
    try:
        worst = seen = 0
        for n in range(KILLS):
            # most kills hit work, one in eight the start
            time.sleep(dice.uniform(0, 0.03) if n % 8 == 7 else dice.uniform(0.1, 0.6))
            oracle.poll()
            agent.kill()
            worst, seen = max(worst, oracle.duplicated - seen), oracle.duplicated
            agent.start(wait=False)
    finally:
        rotator.stop()
    w.stop()
    wait_until_delivered()
    agent.terminate()
    verdict = oracle.expect(duplicated=KILLS * WINDOW)
    print(f"{KILLS} kills, {rotator.rotations} rotations: {verdict}; duplicates of one kill: "
          f"{worst} at most, {verdict.duplicated / KILLS:.0f} on average, the window is {WINDOW}")
    assert worst <= 2 * WINDOW


def test_killed_while_the_service_fails(logs, agent, oracle, endpoint, writer,
                                        wait_until_delivered, dice):
    """Half of the records are throttled, again and again; batches finish in any order.  A record
    that fails for long keeps all behind it from the checkpoint, so duplicates are counted only."""
    log = logs / "app.log"
    endpoint.fault("partial", rate=0.5)
    agent.configure(flow(logs / "*.log", records=RECORDS, in_flight=IN_FLIGHT)).start()
    w = writer(log, rate=4000)
    kills = 10
    for _ in range(kills):
        time.sleep(dice.uniform(0.1, 0.6))
        agent.kill()
        agent.start(wait=False)
    w.stop()
    endpoint.heal()
    wait_until_delivered()
    agent.terminate()
    print(f"{kills} kills: {oracle.expect(duplicated=None)}")


def test_killed_when_all_is_delivered(logs, agent, oracle, quill, wait_until_delivered):
    """Two seconds after the last line everything is on disk: a kill then costs no duplicate."""
    agent.configure(flow(logs / "*.log")).start()
    quill(logs / "app.log").write(3000)
    wait_until_delivered()
    time.sleep(2)
    agent.kill()
    agent.start()
    quill(logs / "app.log").write(10)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()
