"""What depends on the file system: the same stories on ext4, xfs, btrfs, tmpfs and overlay.

`meanwhile()` is when the story happens: while the agent runs, or while it is stopped.  A file's
identity must not be guessed from its first bytes, so most files here begin with the same HEAD; it
arrives once for each file that was written, and `expect(oracle, heads=n)` counts that exactly."""
import contextlib
import functools
import itertools
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest

from harness import PATIENCE, eventually, flow
from mounts import KINDS, Disk, Unmountable, reuse_inode, run, tmpfs
from oracle import lines

SOON = 20                       # seconds: by an event or a poll, not by a glance
HEAD_LINES = next(n for n in itertools.count(1) if len(lines(b"head", 0, n)) > 1200)
HEAD = lines(b"head", 0, HEAD_LINES)
ON_DISK = [kind for kind in KINDS if kind != "tmpfs"]       # it keeps what it had when unmounted


def only(*kinds):
    return pytest.mark.parametrize("disk", kinds, indirect=True, scope="module")


@pytest.fixture
def wait_until_delivered(wait_until_delivered):
    return functools.partial(wait_until_delivered, timeout=SOON)


@pytest.fixture(scope="module", params=KINDS)
def disk(request):
    """One file system for all stories of its kind; each has a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="kinetail-test-", ignore_cleanup_errors=True) as place:
        os.chmod(place, 0o755)
        try:
            made = Disk(request.param, place)
        except Unmountable as why:
            pytest.skip(f"{request.param}: {why}")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def own(place):
    """own(kind): a Disk that is this test's alone."""
    made = []

    def make(kind):
        (place / f"own{len(made)}").mkdir()
        try:
            made.append(Disk(kind, place / f"own{len(made)}"))
        except Unmountable as why:
            pytest.skip(f"{kind}: {why}")
        return made[-1]

    yield make
    for one in reversed(made):
        one.close()


@pytest.fixture
def logs(disk):
    path = pathlib.Path(tempfile.mkdtemp(dir=disk.root))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def log(logs):
    return logs / "app.log"


@pytest.fixture(params=["live", "stopped"])
def meanwhile(request, agent):
    @contextlib.contextmanager
    def story():
        if request.param == "stopped":
            agent.terminate()
        yield request.param
        if request.param == "stopped":
            agent.start()
    return story


@pytest.fixture
def headed(quill, oracle):
    """headed(path): a Quill on a file that begins with HEAD."""
    def begin(path, *arguments):
        oracle.wrote({"head": HEAD_LINES})
        q = quill(path, *arguments)
        q.raw(HEAD)
        return q
    return begin


@pytest.fixture
def finish(agent, oracle, wait_until_delivered):
    """finish(heads=n): all has arrived, and nothing twice but HEAD, which arrived n times."""
    def end(heads=0, duplicated=0):
        again = HEAD_LINES * max(heads - 1, 0)
        wait_until_delivered()
        deadline = time.monotonic() + 5 * PATIENCE
        while oracle.duplicated < again and time.monotonic() < deadline:
            oracle.poll()
            time.sleep(0.05)
        agent.terminate()
        verdict = oracle.expect(duplicated=again + duplicated)
        assert verdict.duplicated >= again, f"a head is missing: {verdict}"
    return end


def copy(disk, path, to):
    if disk.kind in ("xfs", "btrfs"):
        subprocess.run(["cp", "--reflink=always", path, to], check=True)
    else:
        shutil.copyfile(path, to)


def shift(logs, suffix=".log"):
    """app.log.1 becomes app.log.2, and so on: room for app.log.1."""
    for n in range(len(list(logs.glob(f"app{suffix}.*"))), 0, -1):
        os.rename(logs / f"app{suffix}.{n}", logs / f"app{suffix}.{n + 1}")


# -- rotation ----------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["rename", "copytruncate"])
def test_written_and_rotated(disk, logs, log, agent, writer, finish, how):
    """Where there are reflinks, a copy is one."""
    agent.configure(flow(logs / "*.log")).start()
    w = writer(log, rate=10000, seconds=1.2, block=4096 if how == "rename" else 0)
    for _ in range(4):
        time.sleep(0.2)
        shift(logs)
        eventually(log.exists, what="the writer's next file")
        if how == "rename":
            os.rename(log, logs / "app.log.1")
        else:
            with w.paused():                    # what a real logrotate would lose is not ours
                copy(disk, log, logs / "app.log.1")
                os.truncate(log, 0)
    w.wait()
    finish()


def test_copied_and_truncated_with_a_backlog(disk, logs, log, agent, endpoint, headed, finish,
                                             wait_until_delivered, meanwhile):
    """The rest of the old content is in the copy alone."""
    agent.configure(flow(logs / "*.log", records=50, in_flight=1)).start()
    q = headed(log).write(100)
    wait_until_delivered()
    with meanwhile() as when:
        if when == "live":
            endpoint.fault("error", for_ms=700)
        q.write(5000)
        copy(disk, log, logs / "app.log.1")
        os.truncate(log, 0)
        headed(log).write(50)
    finish(heads=2)


@pytest.mark.parametrize("told", [False, True], ids=["by handle", "by glob"])
def test_rotated_into_another_directory(disk, logs, log, agent, quill, finish,
                                        wait_until_delivered, meanwhile, told):
    """It is found by its handle, or where `rotated` says; overlay has no handles to open it by."""
    told = told or disk.kind == "overlay"
    (logs / "archive").mkdir()
    (logs / "archive/app.log-20261101").write_bytes(b"from before our time\n" * 100)
    os.utime(logs / "archive/app.log-20261101", (1, 1))
    more = {"rotated": [str(logs / "archive/*")]} if told else {}
    agent.configure(flow(logs / "*.log", **more)).start()
    q = quill(log).write(500)
    wait_until_delivered()
    with meanwhile():
        q.write(3000)
        q.rename(logs / "archive/app.log-20261121")
        quill(log).write(100)
        q.write(10)
    finish()


# -- identity ----------------------------------------------------------------------------------

def test_inode_reused(disk, logs, agent, headed, finish, wait_until_delivered, meanwhile):
    """Deleted and made again at once, shorter than it was and longer."""
    paths = [logs / "short.log", logs / "long.log"]
    agent.configure(flow(logs / "*.log")).start()
    for path in paths:
        headed(path).write(500).close()
    wait_until_delivered()
    with meanwhile() as when:
        for path, count in zip(paths, (20, 3000)):
            reused = reuse_inode(path, 400 if when == "stopped" else 1)
            if when == "stopped" and disk.kind in ("ext4", "xfs"):
                assert reused                   # while it runs, the agent may hold the old one
            headed(path).write(count)
    finish(heads=4)


def test_same_content(logs, agent, headed, quill, finish, wait_until_delivered, meanwhile):
    """Two files that are equal to the last byte, and then are not."""
    agent.configure(flow(logs / "*.log")).start()
    quills = [headed(logs / f"{name}.log") for name in "abc"]
    wait_until_delivered()
    time.sleep(0.2)
    with meanwhile():
        os.rename(logs / "a.log", logs / "swap")
        os.rename(logs / "b.log", logs / "a.log")
        os.rename(logs / "swap", logs / "b.log")
        for q in quills:
            q.write(100)
        headed(logs / "d.log")
    quill(logs / "d.log").write(10)
    finish(heads=4)


def test_short_file_grows(logs, agent, oracle, quill, finish, wait_until_delivered):
    """Three bytes, then six, then lines: the same file through restarts; and its twin as well."""
    agent.configure(flow(logs / "*.log")).start()
    quills = [quill(logs / f"{name}.log", f"short{name}") for name in "ab"]
    texts = [q.next_line() for q in quills]
    for begin, end in ((0, 3), (3, 4), (4, 40), (40, None)):
        for q, text in zip(quills, texts):
            q.raw(text[begin:end])
        time.sleep(0.2)
        agent.terminate()
        agent.start()
    for q in quills:
        q.write(100)
    wait_until_delivered(202)
    agent.terminate()
    for q in quills:
        q.write(100)
    agent.start()
    finish()


def test_hard_link(logs, agent, headed, quill, finish, wait_until_delivered, meanwhile):
    """One file under two names, of which now one goes and now the other.  inotify says of a write
    in which directory and by which name the writer opened the file, though that name is gone."""
    q = headed(logs / "a.log").write(100)
    os.link(logs / "a.log", logs / "b.log")
    agent.configure(flow(logs / "*.log")).start()
    wait_until_delivered()
    with meanwhile() as when:
        q.write(100)
        os.unlink(logs / "a.log")
        q.write(100)
        os.link(logs / "b.log", logs / "c.log")
        os.unlink(logs / "b.log")
        q.write(100)
    wait_until_delivered()
    if when == "live":                          # who starts now cannot know of the old name
        q.write(100)
    quill(logs / "c.log").write(10)
    finish(heads=1)


@only(*ON_DISK)
def test_device_number_changed(disk, own, agent, headed, quill, finish, wait_until_delivered):
    """As after a reboot that finds the disks in another order."""
    mine = own(disk.kind)
    logs = mine.root / "logs"
    logs.mkdir()
    agent.configure(flow(logs / "*.log")).start()
    for name in "ab":
        headed(logs / f"{name}.log").write(200).close()
    quill(logs / "small.log").write(1).close()
    wait_until_delivered()
    agent.terminate()

    quill(logs / "a.log").write(100).close()
    os.rename(logs / "a.log", logs / "a.log.1")
    headed(logs / "a.log").write(10).close()
    os.rename(logs / "b.log", logs / "other.log")
    before = os.stat(logs).st_dev
    mine.remount()
    assert os.stat(logs).st_dev != before
    agent.start()
    wait_until_delivered()
    for name in ("a", "other", "small"):
        quill(logs / f"{name}.log").write(10).close()
    finish(heads=3)


# -- content that goes -------------------------------------------------------------------------

def test_refilled_past_the_old_end(logs, agent, quill, headed, finish, wait_until_delivered,
                                   meanwhile):
    """With the head that it had, and with another one."""
    agent.configure(flow(logs / "*.log")).start()
    paths = [logs / "same.log", logs / "other.log"]
    for path in paths:
        headed(path).write(100)
    wait_until_delivered()
    with meanwhile():
        for path, begin in zip(paths, (headed, quill)):
            os.truncate(path, 0)
            begin(path).write(400)
    finish(heads=3)


def test_shortened(logs, agent, quill, headed, finish, wait_until_delivered, meanwhile):
    """The last line is taken back, or half of it; then its writer goes on from there."""
    agent.configure(flow(logs / "*.log")).start()
    whole, half = (headed(logs / name).write(100) for name in ("whole.log", "half.log"))
    wait_until_delivered()
    with meanwhile():
        for q, part in ((whole, 1), (half, 2)):
            last = lines(q.id, 99, 100)
            gone = len(last) // part
            os.truncate(q.path, os.path.getsize(q.path) - gone)
            if q is half:
                q.raw(last[-gone:])             # the line was sent, and is whole again
            quill(q.path).write(100)
    finish(heads=2, duplicated=1)


def test_a_hole_of_zeros(disk, logs, log, agent, quill, finish, wait_until_delivered, meanwhile):
    """Who does not append goes on where he was, over a hole: one of pages, one within a page."""
    agent.configure(flow(logs / "*.log")).start()
    q = quill(log, mode="wb").write(200)
    small = quill(logs / "small.log", mode="wb").write(3)
    wait_until_delivered()
    with meanwhile():
        for one in (q, small):
            copy(disk, one.path, f"{one.path}.1")
            os.truncate(one.path, 0)
            one.write(100)
    wait_until_delivered()
    q.write(10)
    small.write(10)
    finish()


def test_deleted_while_the_service_is_down(logs, log, agent, endpoint, headed, finish,
                                           wait_until_delivered):
    agent.configure(flow(logs / "*.log", records=100, in_flight=1)).start()
    q = headed(log).write(100)
    wait_until_delivered()
    endpoint.stop()
    q.write(2000)
    time.sleep(0.3)
    os.unlink(log)
    q.write(500)
    headed(log).write(100).close()
    time.sleep(0.3)
    os.unlink(log)                              # and the next one
    headed(log).write(10)
    time.sleep(0.3)
    endpoint.start()
    finish(heads=3)


# -- btrfs -------------------------------------------------------------------------------------

@only("btrfs")
def test_subvolumes(disk, logs, agent, headed, finish, wait_until_delivered, meanwhile):
    """Each is a file system to look at: its own device number, and the same inode numbers."""
    agent.configure(flow(logs / "**/*.log")).start()
    run("btrfs", "subvolume", "create", logs / "one")
    run("btrfs", "subvolume", "create", logs / "one/two")
    run("btrfs", "subvolume", "create", logs / "three")
    quills = [headed(logs / name / "app.log").write(100) for name in ("one", "one/two", "three")]
    stats = [os.stat(q.path) for q in quills]
    assert stats[0].st_dev != stats[1].st_dev and stats[1].st_ino == stats[2].st_ino
    wait_until_delivered()
    with meanwhile():
        for q in quills:
            q.write(100)
            q.rename(f"{q.path}.1")
        quills += [headed(logs / name / "app.log").write(50) for name in ("one", "one/two")]
    finish(heads=5)


@only("btrfs")
@pytest.mark.parametrize("matched", [False, True], ids=["not matched", "matched"])
def test_snapshot(disk, logs, agent, headed, oracle, quill, finish, wait_until_delivered,
                  meanwhile, matched):
    """The files of a snapshot have the inode numbers and birth times of those they are made of.
    Nobody reads them unless a glob means them; and the file itself goes on where it was."""
    run("btrfs", "subvolume", "create", logs / "live")
    agent.configure(flow(logs / ("*/*.log" if matched else "live/*.log"))).start()
    q = headed(logs / "live/app.log").write(100)
    wait_until_delivered()
    with meanwhile():
        q.write(50)
        run("btrfs", "subvolume", "snapshot", logs / "live", logs / "snap")
        q.write(50)
        if matched:
            quill(logs / "snap/app.log").write(50)
    wait_until_delivered()
    q.write(10)
    finish(heads=1, duplicated=HEAD_LINES + 150 if matched else 0)


# -- overlay -----------------------------------------------------------------------------------

@only("overlay")
@pytest.mark.parametrize("then", ["appended", "chmod", "renamed", "truncated"])
def test_copied_up(disk, own, agent, oracle, headed, quill, finish, wait_until_delivered,
                   meanwhile, then):
    """A file of the lower layer becomes another one below when it is written to: whoever has it
    open reads the old one for ever."""
    mine = own("overlay")
    mine.unmount()
    (mine.lower / "logs").mkdir()
    headed(mine.lower / "logs/app.log").write(200).close()
    mine.mount()
    logs = mine.root / "logs"
    log = logs / "app.log"
    agent.configure(flow(logs / "*.log")).start()
    wait_until_delivered()
    with meanwhile():
        if then == "appended":
            q = quill(log).write(100)
        elif then == "chmod":
            os.chmod(log, 0o600)
            q = quill(log).write(100)
            os.chmod(log, 0o644)                # an event that makes it look who that is
        elif then == "renamed":
            os.rename(log, logs / "app.log.1")
            quill(logs / "app.log.1").write(50)
            q = headed(log).write(100)
        else:
            os.truncate(log, 0)
            q = headed(log).write(100)
    assert (mine.upper / "logs/app.log").exists()
    wait_until_delivered()
    q.write(100)
    wait_until_delivered()
    agent.terminate()
    q.write(10)
    agent.start()
    finish(heads=1 if then in ("appended", "chmod") else 2)


# -- mounts over the logs ----------------------------------------------------------------------

def test_hidden_by_a_mount(disk, logs, log, agent, headed, quill, finish, wait_until_delivered,
                           meanwhile):
    """A mount hides the files, and goes: they are what they were.  Who has one open writes on."""
    agent.configure(flow(logs / "*.log")).start()
    q = headed(log).write(100)
    wait_until_delivered()
    with meanwhile():
        with tmpfs(logs):
            q.write(100)
            time.sleep(0.1)
        q.write(10)
    wait_until_delivered()
    quill(log).write(10)
    finish(heads=1)


@only(*ON_DISK)
def test_started_before_the_mount(own, disk, agent, headed, quill, finish, wait_until_delivered):
    """The agent runs once while there is but an empty mount point; then the logs are back."""
    mine = own(disk.kind)
    log = mine.root / "app.log"
    agent.configure(flow(mine.root / "*.log")).start()
    headed(log).write(100).close()
    wait_until_delivered()
    agent.terminate()
    mine.unmount()
    agent.start()
    agent.terminate()
    mine.mount()
    quill(log).write(10).close()
    agent.start()
    finish(heads=1)
