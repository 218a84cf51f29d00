"""follow_symlinks = true: links that are turned to another target, chains of them, and circles.

`meanwhile()` is when it happens: between two looks of a running agent, so that lines are unread
when the link turns; while it runs; or while it is stopped."""
import contextlib
import functools
import os
import signal
import time

import pytest

from harness import flow
from oracle import records

SOON = 10                                       # seconds: by an event or a poll, not by a glance


@pytest.fixture
def wait_until_delivered(wait_until_delivered):
    return functools.partial(wait_until_delivered, timeout=SOON)


@pytest.fixture(params=["frozen", "live", "stopped"])
def meanwhile(request, agent):
    @contextlib.contextmanager
    def story():
        if request.param == "frozen":
            agent.process.send_signal(signal.SIGSTOP)
        elif request.param == "stopped":
            agent.terminate()
        yield
        if request.param == "frozen":
            agent.process.send_signal(signal.SIGCONT)
        elif request.param == "stopped":
            agent.start()
    return story


@pytest.fixture
def finish(agent, oracle, wait_until_delivered):
    def end():
        wait_until_delivered()
        agent.terminate()
        oracle.expect(reordered=0)
    return end


def follow(agent, *globs, **more):
    """One request at a time, so that the order of arrival is the order of reading."""
    agent.configure(flow(globs, follow_symlinks=True, in_flight=1, **more))
    return agent


def turn(link, target, how="renamed over"):
    """ln -sfn makes a link beside it and renames it; or it is removed and made anew."""
    if how == "renamed over":
        os.symlink(target, f"{link}.tmp")
        os.rename(f"{link}.tmp", link)
    else:
        os.unlink(link)
        os.symlink(target, link)


def in_order(oracle, *ids):
    """Each file was read to its end before the next one was begun."""
    seen = [one.split(b" ", 1)[0].decode() for one in records(oracle.record_file)]
    seen = [one for one in seen if one in ids]
    assert seen == sorted(seen, key=ids.index), "read in turns, not one after the other"


@pytest.mark.parametrize("how", ["renamed over", "made anew"])
@pytest.mark.parametrize("glob", ["current/*.log", "*rent/app.log", "current/app.log"])
def test_directory_link_turned(logs, agent, oracle, quill, finish, wait_until_delivered,
                               meanwhile, how, glob):
    """What v1 has is read to its end, also what is written there after; then v2."""
    (logs / "v1").mkdir()
    os.symlink("v1", logs / "current")
    follow(agent, logs / glob).start()
    one = quill(logs / "v1/app.log", "one").write(50)
    wait_until_delivered()
    with meanwhile():
        one.write(2000)
        (logs / "v2").mkdir()
        two = quill(logs / "v2/app.log", "two").write(50)
        turn(logs / "current", "v2", how)
    wait_until_delivered()
    in_order(oracle, "one", "two")
    one.write(10)
    two.write(10)
    finish()


@pytest.mark.parametrize("how", ["renamed over", "made anew"])
def test_file_link_turned(place, logs, agent, oracle, quill, finish, wait_until_delivered,
                          meanwhile, how):
    """The targets lie elsewhere, where no watched directory tells of them."""
    data = place / "data"
    data.mkdir()
    one = quill(data / "1.txt", "one").write(10)
    os.symlink(data / "1.txt", logs / "app.log")
    follow(agent, logs / "*.log").start()
    one.write(50)
    wait_until_delivered()
    with meanwhile():
        one.write(2000)
        two = quill(data / "2.txt", "two").write(50)
        turn(logs / "app.log", data / "2.txt", how)
    wait_until_delivered()
    in_order(oracle, "one", "two")
    one.write(10)
    two.write(10)
    finish()


def test_target_rotated_behind_its_link(place, logs, agent, quill, finish, wait_until_delivered,
                                        meanwhile):
    """The link stays as it is; what it leads to is renamed and made anew, or emptied."""
    data = place / "data"
    data.mkdir()
    q = quill(data / "app.txt").write(10)
    os.symlink(data / "app.txt", logs / "app.log")
    follow(agent, logs / "*.log").start()
    wait_until_delivered()
    with meanwhile():
        q.write(100)
        q.rename(data / "app.txt.1")
        quill(data / "app.txt").write(50)
        q.write(10)
    wait_until_delivered()
    with meanwhile():
        os.truncate(data / "app.txt", 0)
        quill(data / "app.txt").write(100)
    finish()


@pytest.mark.parametrize("missing", ["file", "directory"])
@pytest.mark.parametrize("link", ["to file", "to directory"])
def test_dangling_link(place, logs, agent, quill, finish, wait_until_delivered, link, missing):
    """Its target comes later, in a directory that no glob names; goes, and comes again."""
    data = place / "data/deep"
    if link == "to file":
        os.symlink(data / "app.txt", logs / "app.log")
    else:
        os.symlink(data, logs / "folder")
    if missing == "file":
        data.mkdir(parents=True)
    follow(agent, logs / "*.log", logs / "*/*.txt").start()
    time.sleep(0.3)
    data.mkdir(parents=True, exist_ok=True)
    q = quill(data / "app.txt").write(50)
    wait_until_delivered()
    os.unlink(data / "app.txt")
    q.write(10)
    wait_until_delivered()
    quill(data / "app.txt").write(20)
    finish()


# -- as Kubernetes does it ---------------------------------------------------------------------

class Pod:
    """containers/x.log -> pods/uid/N.log -> docker/id/id-json.log, as kubelet and Docker had it."""

    def __init__(self, place, quill, ids):
        self.quill, self.ids = quill, ids
        self.containers, self.pod, self.docker = (
            place / name for name in ("containers", "pods/uid/app", "docker"))
        for folder in (self.containers, self.pod, self.docker):
            folder.mkdir(parents=True)
        self.restarts = -1

    def start(self):
        """A container, for the first time or after one that ended."""
        self.restarts += 1
        self.target = self.docker / f"c{self.restarts}/c{self.restarts}-json.log"
        self.target.parent.mkdir()
        q = self.quill(self.target, next(self.ids))
        os.symlink(self.target, self.pod / f"{self.restarts}.log")
        link = self.containers / f"app_default_{self.restarts}.log"
        os.symlink(self.pod / f"{self.restarts}.log", link)
        return q

    def rotate(self, q, stamp):
        """The real file moves aside, and so does the link in the pod's directory."""
        q.rename(f"{self.target}.{stamp}")
        os.rename(self.pod / f"{self.restarts}.log", self.pod / f"{self.restarts}.log.{stamp}")
        new = self.quill(self.target, next(self.ids))
        os.symlink(self.target, self.pod / f"{self.restarts}.log")
        return new

    def end(self):
        """The dead container's link goes; its file may stay a while."""
        os.unlink(self.containers / f"app_default_{self.restarts}.log")


@pytest.mark.parametrize("matched", ["containers", "all of the chain"])
def test_kubernetes(place, agent, quill, finish, wait_until_delivered, meanwhile, matched):
    """The log of one container: written, rotated twice, restarted.  Every line once, even where
    each station on the way is matched."""
    pod = Pod(place, quill, (f"c{n}" for n in range(99)))
    globs = [place / "containers/*.log"]
    if matched != "containers":
        globs += [place / "pods/**/*.log", place / "docker/**/*.log"]
    follow(agent, *globs).start()
    q = pod.start().write(100)
    wait_until_delivered()
    with meanwhile():
        q.write(200)
        new = pod.rotate(q, "20261121-070000")
        q.write(10)                             # until it is told to reopen
        new.write(50)
    wait_until_delivered()
    with meanwhile():
        new.write(20)
        last = pod.rotate(new, "20261121-080000").write(30)
    wait_until_delivered()
    with meanwhile():
        last.write(50)
        pod.end()
        fresh = pod.start().write(50)
    wait_until_delivered()
    fresh.write(10)
    finish()


def test_kubelet_rotates_the_file_in_the_pod(place, agent, quill, finish, wait_until_delivered,
                                             meanwhile):
    """containerd has no third station: pods/uid/0.log is the file, and is renamed itself."""
    pods, containers = place / "pods/uid/app", place / "containers"
    pods.mkdir(parents=True)
    containers.mkdir()
    q = quill(pods / "0.log").write(100)
    os.symlink(pods / "0.log", containers / "app.log")
    follow(agent, containers / "*.log").start()
    wait_until_delivered()
    with meanwhile():
        q.write(200)
        q.rename(pods / "0.log.20261121-070000")
        quill(pods / "0.log").write(50)
        q.write(10)
    wait_until_delivered()
    with meanwhile():
        quill(pods / "0.log").write(50)
        quill(pods / "1.log").write(50)         # the container was restarted
        turn(containers / "app.log", pods / "1.log")
    finish()


# -- the same file, the same directory ---------------------------------------------------------

def test_target_and_link_both_matched(logs, agent, quill, finish, wait_until_delivered,
                                      meanwhile):
    """Whichever name is seen first, the file is read once; and goes on under the other."""
    (logs / "v1").mkdir()
    os.symlink("v1", logs / "current")
    a = quill(logs / "v1/a.log").write(50)
    os.symlink("a.log", logs / "v1/z.log")
    os.symlink("b.log", logs / "v1/0.log")
    follow(agent, logs / "**/*.log").start()
    b = quill(logs / "v1/b.log").write(50)
    wait_until_delivered()
    with meanwhile():
        a.write(10)
        os.unlink(logs / "v1/z.log")
        os.unlink(logs / "current")
        b.write(10)
    wait_until_delivered()
    a.write(10)
    b.write(10)
    finish()


def test_links_in_a_circle(logs, agent, quill, finish, wait_until_delivered):
    """To themselves, to each other, and to directories above: said, and nobody walks in circles."""
    os.symlink("self.log", logs / "self.log")
    os.symlink("pong.log", logs / "ping.log")
    os.symlink("ping.log", logs / "pong.log")
    (logs / "a/b").mkdir(parents=True)
    os.symlink("..", logs / "a/up")
    os.symlink("../../a", logs / "a/b/again")
    q = quill(logs / "a/b/app.log").write(50)
    started = time.monotonic()
    follow(agent, logs / "**/*.log").start()
    assert time.monotonic() - started < 10
    q.write(50)
    quill(logs / "a/later.log").write(50)
    wait_until_delivered()
    for name in ("self.log", "ping.log", "pong.log"):
        told = agent.complaints(f"{name}'")
        assert 1 <= len(told) <= 4 and "set follow_symlinks" not in told[0], agent.log
    before = agent.cpu_seconds()
    time.sleep(1)
    assert agent.cpu_seconds() - before < 0.5
    finish()
