"""inotify at its limits, each of them reached in earnest: nothing is lost, it is said once, and the
machine is not troubled more than a poll does."""
import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import time

import pytest

from harness import flow
from mounts import Disk, Unmountable, tmpfs
from oracle import line
from remote import Remote

QUEUE = pathlib.Path("/proc/sys/fs/inotify/max_queued_events")
SOON = 20                       # seconds: by an event or a poll, not by a glance
CALM_SECONDS = 1.5
CALM_CPU = 0.5                                  # a third of a core: a loop that spins takes all


@pytest.fixture
def wait_until_delivered(wait_until_delivered):
    return functools.partial(wait_until_delivered, timeout=SOON)


@pytest.fixture
def finish(agent, oracle, wait_until_delivered):
    """All has arrived, once, and then there is peace."""
    def end():
        wait_until_delivered()
        before = agent.cpu_seconds()
        time.sleep(CALM_SECONDS)
        assert agent.cpu_seconds() - before < CALM_CPU
        agent.terminate()
        oracle.expect()
    return end


@pytest.fixture
def limited(agent):
    """limited(max_inotify_watches=n): the agent runs in a user namespace with these limits."""
    def limit(**limits):
        inner = " && ".join([*(f"echo {n} >/proc/sys/user/{key}" for key, n in limits.items()),
                             'exec "$@"'])
        prefix = ["unshare", "--user", "--map-root-user", "sh", "-c", inner, "sh"]
        probe = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
        if probe.returncode != 0:
            pytest.skip(f"no user namespace with limits of its own: {probe.stderr.strip()}")
        plain = agent.command
        agent.command = lambda *arguments: prefix + plain(*arguments)
    return limit


@contextlib.contextmanager
def frozen(agent):
    agent.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        agent.process.send_signal(signal.SIGCONT)


def said_once(agent, pattern, most=1):
    told = [one for one in agent.log.splitlines() if pattern in one]
    assert 1 <= len(told) <= most, f"'{pattern}' is said {len(told)} times:\n{agent.tail()}"
    return told[0]


def alternate(quills, count):
    """Single lines, now here and now there, so that no two events are merged."""
    for q in quills:
        texts = [line(q.id, n) + b"\n" for n in range(q.count, q.count + count)]
        q.count += count
        q.oracle.wrote({q.id: q.count})
        q.texts = texts
    for texts in zip(*(q.texts for q in quills)):
        for q, text in zip(quills, texts):
            os.write(q.file.fileno(), text)


def test_queue_overflows_while_frozen(logs, agent, quill, finish, wait_until_delivered):
    """The kernel's queue overflows early; everything after that goes unreported."""
    agent.configure(flow(logs / "**/*.log")).start()
    quills = [quill(logs / f"{name}.log").write(10) for name in "ab"]
    wait_until_delivered()
    limit = int(QUEUE.read_text())
    with frozen(agent):
        alternate(quills, limit // 2 + 100)
        for n in range(2):                      # two generations that nobody has seen
            for q in quills:
                name = q.path.name
                for old in range(n, 0, -1):
                    os.rename(logs / f"{name}.{old}", logs / f"{name}.{old + 1}")
                os.rename(logs / name, logs / f"{name}.1")
                quill(logs / name).write(50)
        for n in range(100):
            (logs / f"new{n}").mkdir()
            quill(logs / f"new{n}/x.log").write(3)
    wait_until_delivered()
    said_once(agent, "overflow")
    quills[0].write(10)                         # it is open still, two names later
    finish()


def test_tiny_queue(logs, agent, quill, finish, wait_until_delivered):
    """So small that it overflows all the time: files, directories and rotations while it runs."""
    usual = QUEUE.read_text()
    try:
        QUEUE.write_text("4\n")
    except OSError as why:
        pytest.skip(f"max_queued_events cannot be set: {why}")
    try:
        agent.configure(flow(logs / "**/*.log")).start()
    finally:
        QUEUE.write_text(usual)
    for n in range(30):
        (logs / f"d{n}/deep").mkdir(parents=True)
        quills = [quill(logs / f"d{n}/deep/{name}.log") for name in "ab"]
        alternate(quills, 20)
        if n % 3 == 0:
            for q in quills:
                q.rename(f"{q.path}.1")
                quill(str(q.path)[:-2]).write(5)
                q.write(5)
    wait_until_delivered()
    said_once(agent, "overflow", most=3)        # again, perhaps, when it has been quiet for long
    finish()


@pytest.mark.parametrize("watches", [0, 3, 12])
def test_watches_run_out(logs, agent, quill, limited, finish, wait_until_delivered, watches):
    limited(max_inotify_watches=watches)
    agent.configure(flow(logs / "**/*.log"))
    quills = []
    for n in range(10):
        (logs / f"d{n}").mkdir()
        quills.append(quill(logs / f"d{n}/app.log").write(10))
    agent.start()
    assert "max_user_watches" in said_once(agent, "max_user_watches")
    for n in range(10, 20):
        (logs / f"d{n}/deep").mkdir(parents=True)
        quills.append(quill(logs / f"d{n}/deep/app.log").write(10))
    for q in quills:
        q.write(10)
    wait_until_delivered()
    for q in quills:
        q.rename(f"{q.path}.1")
        q.write(5)
        quill(str(q.path)[:-2]).write(5)
    wait_until_delivered()
    for q in quills[::3]:
        q.write(5)
        os.unlink(q.path)
    finish()
    said_once(agent, "max_user_watches")


def test_instances_run_out(logs, agent, quill, limited, finish, wait_until_delivered):
    """Not even one inotify: it polls, and says which limit to raise."""
    limited(max_inotify_instances=0)
    agent.configure(flow(logs / "**/*.log"))
    old = quill(logs / "app.log").write(10)
    agent.start()
    assert "max_user_instances" in said_once(agent, "max_user_instances")
    for _ in range(2):
        old.write(100)
        wait_until_delivered(timeout=15)
        old.write(100)
        old.rename(logs / "app.log.1")
        old = quill(logs / "app.log").write(10)
        wait_until_delivered(timeout=15)
        os.rename(logs / "app.log.1", logs / f"app.log.{old.id.decode()}")
    (logs / "new").mkdir()
    quill(logs / "new/app.log").write(10)
    os.truncate(logs / "app.log", 0)
    quill(logs / "app.log").write(50)
    finish()
    said_once(agent, "max_user_instances")


def test_another_host_writes(place, agent, quill, oracle, finish, wait_until_delivered):
    """A network or user-space file system is polled from the beginning, and that is said."""
    try:
        remote = Remote(place)
    except OSError as why:
        pytest.skip(f"FUSE: {why}")
    try:
        agent.configure(flow(remote.here / "logs/**/*.log")).start()
        (remote.there / "logs/new/deep").mkdir(parents=True)
        q = quill(remote.there / "logs/app.log").write(10)
        quill(remote.there / "logs/new/deep/app.log").write(10)
        wait_until_delivered()
        said_once(agent, "once a second")
        for n in range(1, 4):
            q.write(100)
            q.rename(remote.there / f"logs/app.log.{4 - n}")
            new = quill(remote.there / "logs/app.log").write(10)
            q.write(5)
            q = new
            if n >= 2:
                wait_until_delivered()
        os.truncate(q.path, 0)
        quill(q.path).write(200)
        wait_until_delivered()
        agent.terminate()
        quill(q.path).write(10)
        agent.start()
        finish()
        said_once(agent, "once a second")
    finally:
        agent.abandon()
        remote.close()


@pytest.mark.long
def test_what_only_a_glance_finds(place, agent, quill, oracle, wait_until_delivered):
    """What is written below an overlay is not reported in it, and nothing about its type says so;
    of a mount over a directory the kernel tells nobody.  Every minute all is glanced at; and where
    a glance found what inotify had not told, it is polled from then on."""
    over = place / "over"
    over.mkdir()
    try:
        disk = Disk("overlay", place)
    except Unmountable as why:
        pytest.skip(f"overlay: {why}")
    try:
        (disk.root / "logs").mkdir()
        quill(disk.root / "logs/app.log").write(10).close()
        agent.configure(flow([disk.root / "logs/*.log", over / "*.log"])).start()
        hidden = quill(over / "app.log").write(10)
        wait_until_delivered()
        q = quill(disk.upper / "logs/app.log").write(10)
        with tmpfs(over):
            above = quill(over / "app.log").write(10)
            hidden.write(10)
            wait_until_delivered(timeout=80)
            for _ in range(3):                  # another glance would take a minute
                for one in (q, above, hidden):
                    one.write(10)
                wait_until_delivered()
            above.close()
        hidden.write(10)
        quill(over / "new.log").write(10)
        wait_until_delivered(timeout=80)
        said_once(agent, "once a second")
        agent.terminate()
        oracle.expect()
    finally:
        agent.abandon()
        disk.close()
