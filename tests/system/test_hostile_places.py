"""Places where somebody means harm, or was careless: what is no file, what is not ours to read,
names that speak to a terminal, and our own output among what we read.

"must not be read" arrives as a torn line if it is read all the same."""
import errno
import functools
import os
import re
import shutil
import socket
import time
import unicodedata

import pytest

from harness import BINARY, eventually, flow

NOBODY = 65534
SOON = 10                                       # seconds: by an event or a poll, not by a glance


@pytest.fixture
def wait_until_delivered(wait_until_delivered):
    return functools.partial(wait_until_delivered, timeout=SOON)


@pytest.fixture
def as_nobody(place, logs, agent):
    """The agent runs as nobody, who owns its place; the binary may lie where nobody gets."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    for directory in (place, logs):
        os.chown(directory, NOBODY, NOBODY)
    agent.binary = place / "kinetail"
    shutil.copy(BINARY, agent.binary)
    agent.user = NOBODY


@pytest.fixture
def finish(agent, oracle, wait_until_delivered):
    def end():
        wait_until_delivered()
        agent.terminate()
        oracle.expect()
    return end


def said(agent, name, most=1):
    """The complaint about it, which came once."""
    told = eventually(lambda: agent.complaints(re.escape(name)), 5, what=f"a word about '{name}'",
                      alive=agent.alive)
    time.sleep(0.2)
    told = agent.complaints(re.escape(name))
    assert len(told) <= most, "\n".join(told)
    return told[0]


# -- what is no file ---------------------------------------------------------------------------

def fifo(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as s:
        here = os.open(path.parent, os.O_PATH)              # a socket's path is short
        s.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def endless(path):
    try:
        os.mknod(path, 0o644 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root can make a device node")


@pytest.mark.parametrize("make", [fifo, listening, endless, os.mkdir])
def test_no_regular_file(logs, agent, quill, finish, wait_until_delivered, make):
    """There at the start, put in the place of a file, and in turn replaced by one."""
    make(logs / "first.log")
    agent.configure(flow(logs / "*.log")).start()
    good = quill(logs / "good.log").write(10)
    quill(logs / "second.log").write(10)
    wait_until_delivered()
    os.unlink(logs / "second.log")
    make(logs / "second.log")
    good.write(10)
    wait_until_delivered()
    if make is not os.mkdir:
        for name in ("first.log", "second.log"):
            assert "not a regular file" in said(agent, name)
    if make is fifo:
        with pytest.raises(OSError) as nobody_reads:
            os.open(logs / "first.log", os.O_WRONLY | os.O_NONBLOCK)
        assert nobody_reads.value.errno == errno.ENXIO
    for name in ("first.log", "second.log"):
        (os.rmdir if make is os.mkdir else os.unlink)(logs / name)
        quill(logs / name).write(10)
    finish()


# -- links -------------------------------------------------------------------------------------

def test_symbolic_links_are_not_followed(place, logs, agent, quill, finish,
                                         wait_until_delivered):
    secret = place / "secret"
    secret.mkdir()
    (secret / "app.log").write_bytes(b"must not be read\n" * 100)
    (logs / "real").mkdir()
    os.symlink(secret / "app.log", logs / "real/link.log")
    os.symlink(secret, logs / "folder")
    agent.configure(flow(logs / "*/*.log")).start()
    os.symlink(secret / "app.log", logs / "real/later.log")
    os.symlink(secret, logs / "later")
    q = quill(logs / "real/app.log").write(10)
    wait_until_delivered()
    for name in ("real/link.log", "real/later.log", "folder", "later"):
        assert "follow_symlinks" in said(agent, f"{logs}/{name}'")
    q.write(10)
    finish()


def test_a_directory_swapped_for_a_link(place, logs, agent, quill, finish, wait_until_delivered):
    """Over and over, between the agent's look and its open: it never ends up in the secret."""
    secret = place / "secret"
    secret.mkdir()
    (secret / "app.log").write_bytes(b"must not be read\n" * 100)
    (logs / "web").mkdir()
    os.symlink(secret, place / "link")
    agent.configure(flow(logs / "*/*.log")).start()
    q = quill(logs / "web/app.log").write(10)
    wait_until_delivered()
    for n in range(200):
        os.rename(logs / "web", place / "aside")
        os.rename(place / "link", logs / "web")
        q.write(1)
        (secret / "app.log").write_bytes(b"must not be read\n" * (100 + n))
        if n % 20 == 0:
            time.sleep(0.02)
        os.rename(logs / "web", place / "link")
        os.rename(place / "aside", logs / "web")
        q.write(1)
    wait_until_delivered()
    quill(logs / "web/new.log").write(10)
    finish()


@pytest.mark.parametrize("follow", [False, True])
def test_hard_link_to_the_file_of_another(place, logs, agent, quill, finish, follow,
                                          wait_until_delivered):
    """Who may write into a directory may link there what he may not read (unless the kernel
    protects hard links): an agent that may would send it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(logs, NOBODY, NOBODY)
    secret = quill(place / "secret", "secret")
    if follow:
        secret.write(10)
    else:
        secret.raw(b"must not be read\n" * 10)
    os.link(place / "secret", logs / "first.log")
    more = {"follow_hard_links": True} if follow else {}
    agent.configure(flow(logs / "*.log", **more)).start()
    os.link(place / "secret", logs / "later.log")
    quill(logs / "empty.log")
    if not follow:
        (place / "young").write_bytes(b"must not be read\n" * 10)
        os.link(place / "young", logs / "empty.log.1")      # as if it were a rotation of ours
    single = quill(logs / "single.log").write(10)           # of another owner, but not linked
    own = quill(logs / "own.log").write(10)
    os.chown(own.path, NOBODY, NOBODY)
    os.link(own.path, logs / "own2.log")                    # linked, but of the same owner
    wait_until_delivered()
    if not follow:
        for name in ("first.log", "later.log", "empty.log.1"):
            assert "follow_hard_links" in said(agent, name)
    single.write(10)
    own.write(10)
    finish()


# -- names -------------------------------------------------------------------------------------

NAMES = [b"new\nline", b"\n<0>kinetail: forged", b"\x1b[2J\x1b]0;owned\x07", b"\xff\xfe\xc3",
         b" spaces ", b"-rf", b"\x7f\x08\r", "\x9b31m".encode(), b"\x9b31m", b"%s%n'\"\\",
         b"x" * 251]


def test_names_that_speak_to_a_terminal(logs, agent, quill, finish, wait_until_delivered):
    """All are followed; what the log says of them is text on one line."""
    def at(*parts):
        return os.fsdecode(os.path.join(os.fsencode(logs), *parts))

    agent.configure(flow(logs / "**/*.log"))
    for n, name in enumerate(NAMES):
        os.mkdir(at(name[:250]))
        if n % 2 == 0:
            os.mkfifo(at(name[:250], b"fifo.log"))          # so that there is something to say
    agent.start()
    quills = [quill(at(name + b".log")).write(20) for name in NAMES]
    quills += [quill(at(name[:250], b"app.log")).write(5) for name in NAMES]
    for name in NAMES:
        os.symlink("/etc/hostname", at(b"l" + name[:249] + b".log"))
    wait_until_delivered()
    for q, name in zip(quills, NAMES):
        os.truncate(q.path, 0)
        quill(at(name + b".log")).write(3)
    wait_until_delivered()
    agent.terminate()
    agent.start()
    for q in quills:
        q.write(1)
    finish()
    told = agent.log_file.read_bytes()
    assert told.count(b"follow_symlinks") >= len(NAMES)
    for text in told.decode().splitlines():                 # UTF-8, or this raises
        assert re.match(r"<[3-7]>", text), repr(text)
        assert all(unicodedata.category(c) != "Cc" for c in text), repr(text)


# -- our own -----------------------------------------------------------------------------------

def test_our_own_files_are_refused(place, agent, oracle, quill, wait_until_delivered):
    """A glob that means everything means our state and our log as well: a loop that feeds itself,
    if they were followed."""
    tree = place / "tree"
    tree.mkdir()
    agent.place = tree                          # its log is tree/kinetail.err
    agent.state_dir = tree / "state"
    (tree / "srv").mkdir()
    agent.configure(flow([tree / "**/*", tree / "*.err"]))
    q = quill(tree / "srv/app").write(10)
    agent.start()
    for _ in range(5):
        q.write(10)
        time.sleep(0.2)
    wait_until_delivered()
    said(agent, "kinetail.err")
    assert len(agent.complaints(re.escape(str(tree / "state")))) >= 1
    size = agent.log_file.stat().st_size
    time.sleep(2)
    assert agent.log_file.stat().st_size == size, agent.tail()
    assert len(agent.complaints()) <= 4, agent.log
    q.write(10)
    wait_until_delivered()
    agent.terminate()
    agent.start()
    q.write(10)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


# -- what may not be read now ------------------------------------------------------------------

def test_unreadable_now_and_readable_later(as_nobody, logs, agent, quill, finish,
                                           wait_until_delivered):
    """A file, a directory that may not be entered, one that may not be listed."""
    (logs / "closed/deep").mkdir(parents=True)
    (logs / "unlisted").mkdir()
    quills = [quill(logs / name).write(10) for name in
              ("secret.log", "closed/app.log", "closed/deep/app.log", "unlisted/app.log")]
    os.chmod(logs / "secret.log", 0)
    os.chmod(logs / "closed", 0)
    os.chmod(logs / "unlisted", 0o711)
    agent.configure(flow(logs / "**/*.log")).start()
    good = quill(logs / "good.log").write(10)
    wait_until_delivered(10)
    for name in ("secret.log", "closed", "unlisted"):
        assert "ermission" in said(agent, f"{name}'", most=2)
    time.sleep(2.5)                             # it polls there, and does not repeat itself
    for name in ("secret.log", "closed", "unlisted"):
        said(agent, f"{name}'", most=2)
    for q in quills:
        q.write(10)
    os.chmod(logs / "secret.log", 0o644)
    for name in ("closed", "unlisted"):
        os.chmod(logs / name, 0o755)
    wait_until_delivered()
    os.chmod(logs / "closed", 0)                # shut again, while it is read
    good.write(10)
    quills[1].write(10)
    quills[1].rename(logs / "closed/app.log.1")
    quill(logs / "closed/app.log").write(10)
    time.sleep(0.2)
    os.chmod(logs / "closed", 0o755)
    finish()


# -- directories that come and go --------------------------------------------------------------

def test_directory_removed_and_made_again(logs, agent, quill, finish, wait_until_delivered):
    """At once, with the same inode on ext4; deeper, and with what was open in it."""
    agent.configure(flow([logs / "**/*.log", logs / "literal/app.txt"])).start()
    for n in range(4):
        for folder, name in (("a/b/c", "x.log"), ("literal", "app.txt")):
            (logs / folder).mkdir(parents=True)
            quill(logs / folder / name).write(10)
        if n % 2 == 0:
            wait_until_delivered()
            shutil.rmtree(logs / "a")
            shutil.rmtree(logs / "literal")
        else:
            wait_until_delivered()
            os.rename(logs / "a", logs / f"gone{n}")
            os.rename(logs / "literal", logs / f"literal{n}")
    finish()


def test_directory_renamed_away_and_back(place, logs, agent, quill, finish,
                                         wait_until_delivered):
    """Its files are what they were; their writers never noticed."""
    (logs / "a/b").mkdir(parents=True)
    agent.configure(flow(logs / "a/**/*.log")).start()
    quills = [quill(logs / name).write(50) for name in ("a/x.log", "a/b/x.log")]
    wait_until_delivered()
    for pause in (0, 0.3):
        os.rename(logs / "a", place / "aside")
        for q in quills:
            q.write(10)
        time.sleep(pause)
        os.rename(place / "aside", logs / "a")
        for q in quills:
            q.write(10)
        wait_until_delivered()
    agent.terminate()
    os.rename(logs / "a", place / "aside")
    agent.start()
    agent.terminate()
    os.rename(place / "aside", logs / "a")
    for q in quills:
        q.write(10)
    agent.start()
    finish()


@pytest.mark.parametrize("rotated", [False, True], ids=["written", "rotated at once"])
def test_nested_directories_filled_at_once(logs, agent, quill, finish, rotated):
    """Faster than anybody can watch; and rotated before anybody could look."""
    agent.configure(flow(logs / "**/*.log")).start()
    for n in range(20):
        deep = logs / f"{n}/a/b/c"
        deep.mkdir(parents=True)
        q = quill(deep / "x.log").write(5)
        if rotated:
            q.rename(deep / "x.log.1")
            quill(deep / "x.log").write(5)
            q.write(5)
    finish()
