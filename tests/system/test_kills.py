"""kill -9 in all kinds of weather: under load, in outages, while the spool fills and drains, while
files are rotated and deleted.  Nothing is lost or torn, and a kill repeats no more than what was on
its way.

KILLS (40) is how many kills there are, half of them for each service; `make kills` does 1000."""
import json
import os
import random
import threading
import time
import urllib.error

import pytest

from harness import PATIENCE, eventually, flow
from test_crash import Rotator

KILLS = int(os.environ.get("KILLS", "40"))
RATE = 1000                             # lines a second, of each of two logs
RECORDS = 50
IN_FLIGHT = 4
REQUEST_MAX = 500                       # records that a request from the spool may have
# What may be on its way when it is killed: requests with fresh records, and of the 16 frames that
# leave the spool at a time two requests.  A kill repeats no more than that.
WINDOW = IN_FLIGHT * RECORDS + min(2 * REQUEST_MAX, 16 * RECORDS)
GENERATIONS = 3                         # rotated files of each log that stay
RESCUE_EVERY = max(10, KILLS // 40)     # kills

SPOOL = {"patience": "300ms", "min_free": "1MiB"}

# What the service does for a while; half of the time all is well.
WEATHER = {
    "down": [{"kind": "down", "for_ms": 800}],
    "failing": [{"kind": "error", "status": 503}],
    "throttling": [{"kind": "partial", "rate": 0.3}],
    "hot": [{"kind": "partial", "pattern": "7 "}],
    "losing answers": [{"kind": "reset_after_store", "rate": 0.2}],
    "slow": [{"kind": "slow", "delay_ms": 150}],
}


class Weather(threading.Thread):
    """Changes what the service does; whoever has its lock changes it himself."""

    def __init__(self, endpoint, seed):
        super().__init__(daemon=True)
        self.endpoint = endpoint
        self.dice = random.Random(seed)
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.count = dict.fromkeys(WEATHER, 0)
        self.murky = False              # answers were lost since somebody said it is not
        self.unanswered = 0             # requests that were stored, and their answers lost

    def set(self, faults):
        """Also while the port is closed: as soon as it is open again."""
        while True:
            try:
                self.unanswered += sum(one["fired"] for one in json.loads(
                    self.endpoint.call("GET", "faults")) if one["kind"] == "reset_after_store")
                self.endpoint.faults(*faults)
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)

    def run(self):
        while not self.done.is_set():
            name = self.dice.choice(list(WEATHER))
            with self.lock:
                self.murky = self.murky or name in ("down", "losing answers")
                self.set(WEATHER[name])
                self.count[name] += 1
                # What is hot goes around in the spool when it is so for long.
                self.done.wait(self.dice.uniform(0.3, 5 if name == "hot" else 1.5))
                self.set([])
            self.done.wait(self.dice.uniform(0.3, 1.5))

    def stop(self):
        self.done.set()
        self.join()


def settled(agent):
    """What is delivered or in the spool, as the checkpoint says: {(path, inode, offset)}."""
    done = agent.run("checkpoint", "list", "--json", "-c", agent.config_file)
    assert done.returncode == 0, done.stderr
    return {(one["path"], one["inode"], one["offset"])
            for one in map(json.loads, done.stdout.splitlines())}


def delete_old(agent, log):
    """Deletes generations that are settled to their end."""
    old = sorted(log.parent.glob(log.name + ".*"), key=lambda p: int(p.suffix[1:]))[:-GENERATIONS]
    places = {place[1:] for place in settled(agent)} if old else ()
    old = [path for path in old if (path.stat().st_ino, path.stat().st_size) in places]
    for path in old:
        path.unlink()
    return len(old)


def rescue(agent, weather, quill, path):
    """A file is deleted in an outage, most of it not yet read: it is read into the spool."""
    with weather.lock:
        weather.set(WEATHER["failing"])
        q = quill(path).write(2500)
        stat = path.stat()
        # In the middle of it: what is only looked at may be closed again.
        eventually(lambda: any(name == str(path) and 0 < at < stat.st_size
                               for name, _, at in settled(agent)), what="it is being read",
                   alive=agent.alive)
        assert str(path) in agent.open_files()
        path.unlink()
        q.close()
        # Whoever kills it now loses what the service and the disk do not have: so nobody does.
        eventually(lambda: (str(path), stat.st_ino, stat.st_size) in settled(agent), 60,
                   step=0.1, what="all of the deleted file is spooled", alive=agent.alive)
        rescued = "read into the spool now" in agent.log
        weather.set([])
    return rescued


@pytest.mark.long
@pytest.mark.endpoint(arguments=["--delivery-stream=s1"])
@pytest.mark.parametrize("service", ["kinesis", "firehose"])
def test_killed_in_all_weather(service, logs, agent, oracle, endpoint, writer, quill,
                               wait_until_delivered, dice):
    kills = max(1, KILLS // 2)
    paths = [logs / "a.log", logs / "b.log"]
    to = {} if service == "kinesis" else {"delivery_stream": "s1", "newline": False}
    agent.configure(flow(logs / "*.log", records=RECORDS, in_flight=IN_FLIGHT,
                         held_limit="64KiB", **to), spool=SPOOL)
    agent.start()                       # the first start: from here on nothing may be missed
    writers = [writer(path, rate=RATE, hold=0.05) for path in paths]
    rotators = [Rotator(path, random.Random(dice.random())) for path in paths]
    weather = Weather(endpoint, dice.random())
    for one in (*rotators, weather):
        one.start()
    worst = seen = spooling = deleted = rescued = 0
    began = time.monotonic()
    try:
        for n in range(kills):
            # most kills hit work, one in eight the start
            time.sleep(dice.uniform(0, 0.03) if n % 8 == 7 else dice.uniform(0.1, 0.7))
            if n % 5 == 4:
                deleted += sum(delete_old(agent, path) for path in paths)
            if n % RESCUE_EVERY == RESCUE_EVERY - 1:
                rescued += rescue(agent, weather, quill, logs / f"rescue{n}.log")
            oracle.poll()
            spooling += any((agent.state_dir / "spool").rglob("*.seg"))
            agent.kill()
            if not weather.murky:       # then it is the kill before that is to blame
                worst = max(worst, oracle.duplicated - seen)
            weather.murky, seen = weather.lock.locked(), oracle.duplicated
            if n % 10 == 5:
                time.sleep(dice.uniform(0.3, 1.0))  # files are rotated meanwhile
            agent.start(wait=False)
    finally:
        for one in (*rotators, weather):
            one.stop()
    seconds = time.monotonic() - began
    for one in writers:
        one.stop()
    wait_until_delivered(timeout=120 + KILLS / 5)
    agent.terminate()
    # What the service stored without saying so is in the sum as well: it is no more than that.
    verdict = oracle.expect(duplicated=kills * WINDOW)
    print(f"{service}: {kills} kills in {seconds:.0f} s, {sum(r.rotations for r in rotators)} "
          f"rotations, {deleted} generations deleted and {rescued} files rescued, weather "
          f"{weather.count}, {weather.unanswered} answers lost, {spooling} kills with a spool: "
          f"{str(verdict).splitlines()[0]}; duplicates of one kill: {worst} at most, "
          f"{verdict.duplicated / kills:.0f} on average, the window is {WINDOW}")
    assert rescued == kills // RESCUE_EVERY
    assert PATIENCE > 1 or spooling > kills // 4
