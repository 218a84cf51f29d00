"""The agent's own disk is full, has no inodes left, is over its quota, fails, or is read-only: nothing
is lost, it is said, and it is over by itself soon after the cause is gone.

STORIES is the table.  The agent follows a file of numbered lines that is rotated each second, and
one whose lines become dead letters.  After a while the cause comes, stays for some seconds, in some
stories with a kill -9 and a start in its middle, and goes.  Then everything must have arrived.

What a file system here can be made to do it does (a tmpfs that is full, or has no inode left; a
btrfs with a limit; one mounted read-only at a start), the rest does bad_disk.c in its place.  The
stories wait most of their time, so all that were selected run at once, a dozen at a time.
"""
import base64
import concurrent.futures
import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

import pytest

from harness import BINARY, PATIENCE, ROOT, Agent, Endpoint, Quill, eventually, flow, have
from mounts import Unmountable, run as command, unmount
from oracle import Oracle

AT_ONCE = 12
BATCH, IN_FLIGHT = 100, 4
BEFORE, DURING = 1.2, 4.0           # seconds
STEP = 0.04                         # seconds; each writes:
LINES = 20
ROOMS = ("checkpoint", "spool", "dead")
SAID = {
    "checkpoint": r"checkpoint: ",
    "spool": r"spool of s1: ",
    "dead": r"dead letters of s1: cannot be written",
}
NO_FLOOD = 4                        # lines of a room, in the seconds that the cause stays


# -- causes ------------------------------------------------------------------------------------

class Cause:
    """Something wrong with the state directory, or with one room of it."""
    environment = {}

    def __init__(self, world, room):
        self.world = world
        self.folder = world.agent.state_dir / room
        self.folder.mkdir(parents=True)

    def begin(self):
        pass

    def end(self):
        pass

    def close(self):
        with contextlib.suppress(Unmountable):
            self.end()


class Mounted(Cause):
    """A file system of its own."""
    command = ()

    def __init__(self, world, room):
        super().__init__(world, room)
        if os.geteuid() != 0:
            raise Unmountable("only root can mount")
        self.mount()

    def mount(self):
        command("mount", "-t", "tmpfs", "-o", "mode=0700,size=16M,nr_inodes=300", "kinetail-test",
                self.folder)

    def close(self):
        super().close()
        unmount(self.folder)


class Greedy(Mounted):
    """Somebody takes what is free, and whatever becomes free."""

    def __init__(self, world, room):
        super().__init__(world, room)
        self.over = threading.Event()
        self.thread = None

    def begin(self):
        self.over.clear()
        self.thread = threading.Thread(target=self.eat, daemon=True)
        self.take()
        self.thread.start()

    def eat(self):
        while not self.over.wait(0.02):
            self.take()

    def end(self):
        if self.thread is not None:
            self.over.set()
            self.thread.join()
            self.thread = None
            self.give_back()


class Full(Greedy):
    def take(self):
        with open(self.folder / "else's", "ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    def give_back(self):
        (self.folder / "else's").unlink()


class NoInodes(Greedy):
    count = 0

    def take(self):
        with contextlib.suppress(OSError):
            while True:
                (self.folder / f"else's{self.count}").touch()
                self.count += 1

    def give_back(self):
        for path in self.folder.glob("else's*"):
            path.unlink()


class Quota(Full):
    """The same, within a limit of a subvolume: EDQUOT."""

    def mount(self):
        image = self.world.place / "image"
        with open(image, "wb") as file:
            file.truncate(256 << 20)
        self.top = self.world.place / "top"
        self.top.mkdir()
        command("mkfs.btrfs", "-q", "-f", image)
        command("mount", "-t", "btrfs", "-o", "loop", image, self.top)
        command("btrfs", "quota", "enable", self.top)
        command("btrfs", "subvolume", "create", self.top / "state")
        command("btrfs", "qgroup", "limit", "16M", self.top / "state")
        command("mount", "--bind", self.top / "state", self.folder)

    def close(self):
        super().close()
        unmount(self.top)


class ReadOnly(Mounted):
    """A kernel does not make a mount read-only under a file that is open for writing, so the agent
    is killed just before, and its next start finds it so."""

    def begin(self):
        self.world.agent.kill()
        command("mount", "-o", "remount,ro", self.folder)
        self.world.start()

    def end(self):
        command("mount", "-o", "remount,rw", self.folder)


class Bad(Cause):
    """bad_disk.c"""
    how, error = "", 0

    def __init__(self, world, room):
        super().__init__(world, room)
        if world.agent.sanitized:
            raise Unmountable("a sanitizer wants to be the first library")
        self.rule = world.place / "bad_disk"
        self.end()
        self.environment = {"LD_PRELOAD": str(library()), "BAD_DISK": str(self.rule)}

    def begin(self):
        self.put(f"{self.how} {self.error} {self.folder}\n")

    def end(self):
        self.put("")

    def put(self, text):
        new = self.rule.with_suffix(".new")
        new.write_text(text)
        new.rename(self.rule)


def bad(how, error):
    return type(f"Bad{how}", (Bad,), {"how": how, "error": error})


CAUSES = {
    "full": Full, "inodes": NoInodes, "quota": Quota, "read-only": ReadOnly,
    "EDQUOT": bad("full", errno.EDQUOT),
    "EIO on write": bad("write", errno.EIO), "EIO on fsync": bad("sync", errno.EIO),
    "EROFS": bad("readonly", errno.EROFS),
}
RESERVED = ("full", "inodes", "EDQUOT")     # places are still remembered; btrfs's own books have no
                                            # room for them when a limit is reached
LIBRARY = threading.Lock()


def library():
    """bad_disk.c as a library, once for all."""
    place = pathlib.Path(tempfile.gettempdir()) / f"kinetail-bad-disk-{os.getpid()}.so"
    with LIBRARY:
        if not place.exists():
            compiler = have("cc")
            if compiler is None:
                raise Unmountable("cc is not installed")
            subprocess.run([compiler, "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", place,
                            ROOT / "tests" / "system" / "bad_disk.c"], check=True)
    return place


# -- stories -----------------------------------------------------------------------------------

@dataclass(frozen=True)
class Story:
    cause: str
    room: str                       # one of ROOMS, or "" for all of them
    service: str = "up"
    killed: bool = False            # in the middle

    def __str__(self):
        return "-".join(filter(None, (self.cause.replace(" ", "_"), self.room or "all",
                                      self.service, "killed" if self.killed else "")))

    @property
    def touched(self):
        """Rooms that have something to write."""
        rooms = [self.room] if self.room else list(ROOMS)
        return [r for r in rooms if r != "spool" or self.service == "down"]


STORIES = [
    *(Story(cause, "", service, killed) for cause in ("full", "inodes", "quota")
      for service in ("up", "down") for killed in (False, True)),
    *(Story("read-only", "", service) for service in ("up", "down")),
    *(Story("full", room, "down") for room in ROOMS),
    *(Story(cause, room, service) for cause in ("EDQUOT", "EIO on write", "EIO on fsync", "EROFS")
      for room, service in (("checkpoint", "up"), ("checkpoint", "down"), ("spool", "down"),
                            ("dead", "up"))),
    *(Story(cause, "", service, True) for cause in ("EIO on write", "EROFS")
      for service in ("up", "down")),
]


class World:
    def __init__(self, story):
        self.story = story
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="kinetail-disks-"))
        self.place.chmod(0o755)
        self.logs = self.place / "logs"
        self.logs.mkdir()
        self.endpoint = Endpoint(self.place)
        self.oracle = Oracle(self.endpoint.record_file)
        self.agent = Agent(self.place, self.endpoint)
        self.agent.configure(
            flow(self.logs / "*.log", records=BATCH, in_flight=IN_FLIGHT),
            flow(self.logs / "*.csv", name="d",
                 parse={"format": "csv", "fields": ["a", "b"], "on_mismatch": "dead"}),
            spool={"patience": "500ms", "min_free": "64KiB"}, drain_timeout="2s")
        self.quill, self.files, self.bad_lines = None, 0, 0
        self.rotated = 0.0
        self.cause = None

    def close(self):
        if self.quill is not None:
            self.quill.close()
        self.agent.abandon()
        self.endpoint.stop()
        if self.cause is not None:
            self.cause.close()
        if os.environ.get("KT_KEEP") != "1":
            shutil.rmtree(self.place, ignore_errors=True)

    def start(self):
        self.agent.start(env=self.cause.environment)

    # what is written

    def write(self):
        now = time.monotonic()
        if now - self.rotated > 1 or self.quill is None:
            self.rotated = now
            if self.quill is not None:
                self.quill.close().rename(self.logs / f"app.log.{self.files}")
            self.files += 1
            self.quill = Quill(self.logs / "app.log", self.oracle, f"q{self.files}")
        self.quill.write(LINES)
        with open(self.logs / "bad.csv", "ab") as file:
            file.write(b"1,2,3,%d\n" % self.bad_lines)
        self.bad_lines += 1

    def go_on(self, seconds=None, until=lambda: False, timeout=25.0):
        """Lines are written for so long, or until something is so; gives the seconds."""
        began = time.monotonic()
        while not until():
            taken = time.monotonic() - began
            if taken > (seconds if seconds is not None else timeout * PATIENCE):
                assert seconds is not None, f"not within {timeout * PATIENCE:g} s"
                break
            self.write()
            self.agent.alive()
            time.sleep(STEP)
        return time.monotonic() - began

    # what is there

    def letters(self):
        found = []
        for path in sorted((self.agent.state_dir / "dead").glob("*/dead-*.log")):
            for one in path.read_bytes().splitlines()[1:]:
                with contextlib.suppress(ValueError):       # being written just now, or torn
                    data = base64.b64decode(json.loads(one)["record_base64"])
                    found.append(int(data.rsplit(b",", 1)[1]))
        return found

    def is_written(self, room, since_ns):
        names = {"checkpoint": "*.journal", "spool": "*/spool-*.seg", "dead": "*/dead-*.log"}[room]
        for path in (self.agent.state_dir / room).glob(names):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime_ns > since_ns:
                    return True
        return False

    # what happens

    def run(self):
        story = self.story
        self.cause = CAUSES[story.cause](self, story.room)
        self.start()
        self.go_on(BEFORE)
        if story.service == "down":
            self.endpoint.fault("error", status=503)
            self.go_on(1.5)
        self.cause.begin()
        self.go_on(DURING / 2)
        if story.killed:
            said = self.agent.log
            self.agent.kill()
            self.start()
        else:
            said = ""
        self.go_on(DURING / 2)
        said += self.agent.log
        self.cause.end()
        since = time.time_ns()
        taken = {room: self.go_on(until=lambda r=room: self.is_written(r, since))
                 for room in story.touched}
        taken = {room: sum(list(taken.values())[:i + 1]) for i, room in enumerate(taken)}
        self.endpoint.heal()
        self.go_on(0.5)
        self.oracle.wait(None, 60 * PATIENCE, alive=self.agent.alive)
        eventually(lambda: set(self.letters()) >= set(range(self.bad_lines)), 30, step=0.1,
                   what="the dead letters", alive=self.agent.alive)
        self.agent.terminate()
        self.judge(said)
        return ", ".join(f"{room} {seconds:.1f} s" for room, seconds in taken.items())

    def must_speak(self, room):
        """Without an inode one still writes to the files that are open, and the present journal has
        room of its own: only what must begin a new file cannot."""
        if room == "checkpoint":
            return self.story.killed or self.story.cause not in RESERVED
        return self.story.cause != "inodes" or self.story.killed and room == "dead"

    def judge(self, said):
        story = self.story
        verdict = self.oracle.verdict()
        again = len(self.letters()) - self.bad_lines
        assert verdict.lost == verdict.torn == 0, verdict
        limit = 0
        if story.killed or story.cause == "read-only":
            # What is remembered costs at most what was on its way; else what was sent meanwhile.
            limit = BATCH * IN_FLIGHT * 2
            if story.cause not in RESERVED:
                limit = self.oracle.written
        assert verdict.duplicated <= limit, f"more than {limit}: {verdict}"
        limit = self.bad_lines if limit or "dead" in story.touched else 0
        assert again <= limit, f"{again} letters again"
        complaints = [one for one in said.splitlines() if one[:3] in ("<3>", "<4>")]
        for room in story.touched:
            about = [one for one in complaints if re.search(SAID[room], one)]
            if self.must_speak(room):
                assert about, f"no word about {room}:\n{said}"
            assert len(about) <= NO_FLOOD, "\n".join(about)


def run(story):
    """(None, an error or a skip's exception; a line about it)"""
    world = World(story)
    try:
        line = world.run()
        return None, f"{story}: {line}; {world.oracle.verdict()}"
    except Unmountable as why:
        return why, ""
    except AssertionError as error:
        return f"{error}\n{world.oracle.verdict()}\n{world.agent.history()}\nthe agent's log:\n" \
               f"{world.agent.tail()}", ""
    finally:
        world.close()


def test_two_on_a_read_only_disk(place, agent, endpoint):
    """Both can only read there, and still there is only one."""
    other = Agent(place, endpoint)
    agent.state_dir.mkdir()
    try:
        command("mount", "-t", "tmpfs", "-o", "mode=0700,size=16M", "kinetail-test",
                agent.state_dir)
    except Unmountable as why:
        pytest.skip(str(why))
    try:
        agent.configure(flow(place / "*.log")).start()
        agent.terminate()
        for first, second in (("ro", "ro"), ("rw", "ro"), ("ro", "rw")):
            command("mount", "-o", f"remount,{first}", agent.state_dir)
            agent.start()
            with contextlib.suppress(Unmountable):      # it is open for writing
                command("mount", "-o", f"remount,{second}", agent.state_dir)
            done = other.run("-c", agent.config_file)
            assert done.returncode == 1 and "in use by another kinetail" in done.stderr
            agent.kill()
            command("mount", "-o", "remount,rw", agent.state_dir)
    finally:
        agent.abandon()
        unmount(agent.state_dir)


def test_other_programs_keep_their_room(place, logs, agent, endpoint, quill, oracle,
                                        wait_until_delivered):
    """spool.min_free: the spool leaves so much to others, and says that it does."""
    floor, slack = 16 << 20, 2 << 20        # checkpoint and its reserve come after the spool
    agent.state_dir.mkdir()
    try:
        command("mount", "-t", "tmpfs", "-o", "mode=0700,size=32M", "kinetail-test",
                agent.state_dir)
    except Unmountable as why:
        pytest.skip(str(why))
    try:
        agent.configure(flow(logs / "*.log"), spool={"patience": "300ms", "min_free": "16MiB"})
        agent.start()
        q = quill(logs / "app.log").write(100)
        wait_until_delivered()
        endpoint.fault("error", status=503)
        for _ in range(40):
            q.write(5000)                   # 32 MB

        def said():
            now = os.statvfs(agent.state_dir)
            assert now.f_bavail * now.f_frsize >= floor - slack
            return agent.complaints("spool of s1: less than spool.min_free")

        eventually(said, 60, what="a word", alive=agent.alive)
        for _ in range(30):
            assert len(said()) == 1
            time.sleep(0.1)
        endpoint.heal()
        wait_until_delivered()
        agent.terminate()
        oracle.expect()
    finally:
        agent.abandon()
        unmount(agent.state_dir)


@pytest.fixture(scope="module")
def told(request):
    """{story: what became of it, in time}, of all that were selected."""
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not there: run make, or say KINETAIL=…", pytrace=False)
    wanted = [item.callspec.params["story"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")]
    pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    yield {story: pool.submit(run, story) for story in wanted}
    pool.shutdown(cancel_futures=True)
    with contextlib.suppress(Unmountable):
        library().unlink()


@pytest.mark.long
@pytest.mark.parametrize("story", STORIES, ids=str)
def test_story(told, story):
    error, line = told[story].result(timeout=600 * PATIENCE)
    print(line)
    if isinstance(error, Unmountable):
        pytest.skip(str(error))
    assert error is None, error
