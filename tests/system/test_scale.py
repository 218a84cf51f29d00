"""Many files, few descriptors, and rotations that come faster than anybody looks.

How much of it costs how much is for `make bench` to say; here nothing may be lost or come twice,
and what was opened for it is given back."""
import os
import pathlib
import signal
import time

import pytest

from harness import PATIENCE, eventually, flow
from oracle import lines

FEW = 64                                        # descriptors, the agent's own included
GRACE = 60                                      # seconds; a renamed file is held for so long


@pytest.fixture
def log(logs):
    return logs / "app.log"


@pytest.fixture
def few_descriptors(agent, monkeypatch):
    """The agent may have FEW descriptors open, and cannot allow itself more."""
    command = agent.command
    monkeypatch.setattr(agent, "command", lambda *arguments: [
        "prlimit", f"--nofile={FEW}:{FEW}", "--", *command(*arguments)])


def watches(agent):
    """How many inodes its inotify watches."""
    folder = pathlib.Path(f"/proc/{agent.process.pid}/fdinfo")
    return sum((folder / name).read_text().count("inotify wd:")
               for name in os.listdir(folder) if (folder / name).exists())


def descriptors(agent):
    """How many it has open, connections apart: those come and go as they like."""
    return len([one for one in agent.open_files() if not one.startswith("socket:")])


def has_few(agent):
    text = pathlib.Path(f"/proc/{agent.process.pid}/limits").read_text()
    return f"{FEW}" in next(one for one in text.splitlines() if one.startswith("Max open files"))


def paced(count, per_second):
    """0 … count - 1, each at its moment; what is late comes at once."""
    begin = time.monotonic()
    for n in range(count):
        left = begin + n / per_second - time.monotonic()
        if left > 0:
            time.sleep(left)
        yield n


def write_one(path, oracle, file_id):
    """A file of one line, quicker than a Quill."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.write(fd, lines(file_id.encode(), 0, 1))
    os.close(fd)
    oracle.wrote({file_id: 1})


@pytest.mark.usefixtures("few_descriptors")
def test_five_hundred_files_and_few_descriptors(logs, agent, oracle, quill, dice,
                                                wait_until_delivered):
    """Written to in turn, rotated while they are written to, some deleted.  A file is deleted only
    after it was delivered: what is deleted unread and was not open, nobody can have."""
    agent.configure(flow(logs / "*.log")).start()
    assert has_few(agent)
    quills = [quill(logs / f"{n:03}.log") for n in range(500)]
    for _ in range(6):
        for q in quills:
            q.write(3)
        for n in dice.sample(range(500), 100):
            old = quills[n]
            path = old.path
            for generation in (2, 1):
                if os.path.exists(f"{path}.{generation}"):
                    os.rename(f"{path}.{generation}", f"{path}.{generation + 1}")
            old.rename(f"{path}.1")
            quills[n] = quill(path).write(2)
            old.write(1).close()
        wait_until_delivered()
        for n in dice.sample(range(500), 20):
            path = quills[n].path
            os.unlink(path)
            quills[n].close()
            quills[n] = quill(path)
    for q in quills:
        q.write(1)
    wait_until_delivered()
    agent.terminate()
    verdict = oracle.expect()
    assert verdict.written > 9000


@pytest.mark.usefixtures("few_descriptors")
@pytest.mark.parametrize("names", ["shifted", "dated"])
def test_two_hundred_rotations_while_stopped_and_few_descriptors(logs, log, agent, oracle, quill,
                                                                 wait_until_delivered, names):
    """More generations than descriptors; the oldest of them is read from its middle."""
    agent.configure(flow(log)).start()
    assert has_few(agent)
    q = quill(log).write(100)
    wait_until_delivered()
    agent.terminate()
    q.write(50)
    for n in range(200):
        if names == "dated":
            q.rename(f"{log}-202611{n // 24 + 1:02}{n % 24:02}")
        else:
            for generation in range(n, 0, -1):
                os.rename(f"{log}.{generation}", f"{log}.{generation + 1}")
            q.rename(f"{log}.1")
        q.close()
        q = quill(log).write(10)
    assert len(os.listdir(logs)) == 201
    agent.start()
    wait_until_delivered()
    q.write(10)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


@pytest.mark.long
def test_a_storm_of_rotations_leaks_nothing(log, agent, oracle, dice, wait_until_delivered):
    """1,000 a second, some of them at once, each file with its one line; all of them stay, so all
    of them arrive.  When they have been quiet for long enough, it is as if nothing had been."""
    agent.configure(flow(log)).start()
    write_one(log, oracle, "q")
    wait_until_delivered()
    opened, watched = descriptors(agent), watches(agent)

    # What comes between the agent's hearing of a rotation and its look is the hard part.
    late = 0
    for n in paced(3000, 1000):
        late += 1
        if n == 2999 or dice.random() < 0.5:
            for m in range(n - late + 1, n + 1):
                os.rename(log, f"{log}.{m}")
                write_one(log, oracle, f"q{m}")
            late = 0
    wait_until_delivered()
    eventually(lambda: descriptors(agent) <= opened, timeout=2 * GRACE, step=0.5,
               what="as few descriptors as before", alive=agent.alive)
    eventually(lambda: watches(agent) <= watched, timeout=10, step=0.5,
               what="as few watches as before", alive=agent.alive)
    os.rename(log, f"{log}.last")
    write_one(log, oracle, "last")
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


@pytest.mark.parametrize("frozen", [False, True], ids=["awake", "frozen"])
def test_a_burst_of_ten_thousand_files(logs, agent, oracle, quill, wait_until_delivered, frozen):
    """Frozen, it has more events before it than the kernel keeps by default."""
    agent.configure(flow(logs / "*.log")).start()
    quill(logs / "first.log").write(1)
    wait_until_delivered()
    if frozen:
        agent.process.send_signal(signal.SIGSTOP)
    for n in range(10000):
        quill(logs / f"{n:05}.log").write(1).close()
    agent.process.send_signal(signal.SIGCONT)
    wait_until_delivered(timeout=45)    # less than till everything is glanced at anyway
    if frozen and int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text()) < 20000:
        assert "overflow" in agent.log
    agent.terminate()
    oracle.expect()


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_quiet_files_are_not_read_again(logs, agent, oracle, quill, wait_until_delivered, end):
    """3,000 of them, and five that go on, also while the agent is away."""
    for n in range(3000):
        at = logs / f"{n // 1000}"
        at.mkdir(exist_ok=True)
        quill(at / f"{n:04}.log").write(2).close()
    active = [quill(logs / "0" / f"active{n}.log").write(5) for n in range(5)]
    agent.configure(flow(logs / "*/*.log")).start()
    wait_until_delivered()
    time.sleep(0.5 * PATIENCE)          # the last answer has come, and is in the checkpoint
    for _ in range(3):
        for q in active:
            q.write(5)
        wait_until_delivered()
        time.sleep(0.5 * PATIENCE)
        getattr(agent, end)()
        for q in active:
            q.write(5)
        agent.start()
        wait_until_delivered()
    getattr(agent, end)()
    oracle.expect()
