"""Which files, and from where: globs, new files and directories, from, bad files."""
import os
import time

import pytest

from harness import flow


def test_five_hundred_files_at_once(logs, agent, oracle, quill, wait_until_delivered):
    """Half of them are there at the start, half come later; all are written to at once."""
    agent.configure(flow(logs / "*.log"))
    quills = [quill(logs / f"{n:03}.log").write(20) for n in range(250)]
    agent.start()
    for _ in range(10):
        for q in quills:
            q.write(10)
        if len(quills) < 500:
            quills += [quill(logs / f"{n:03}.log").write(10)
                       for n in range(len(quills), len(quills) + 50)]
    wait_until_delivered()
    for q in quills:
        q.write(1)
    wait_until_delivered()
    agent.terminate()
    verdict = oracle.expect()
    assert len(quills) == 500 and verdict.written > 50000


def test_every_kind_of_glob(logs, agent, oracle, quill, wait_until_delivered):
    """`*`, `?`, `[…]`, `{a,b}`, `**`, in every component; and what they must not match."""
    yes = ["one.log", "web1/access.log", "web2/error.log", "deep/a/b/c/x.txt", "deep/x.txt",
           "q7.dat", "set/b.out", "set/c.out", "quoted[1].log"]
    no = ["one.log.gz", "web3/access.log", "web1/other.log", "deep/a/x.log", "q.dat", "q77.dat",
          "set/d.out", "set/a.out", "web1/sub/access.log", ".hidden.log", "skip.log",
          "deep/a/skip.txt"]
    for path in yes + no:
        (logs / path).parent.mkdir(parents=True, exist_ok=True)
    for path in no:
        (logs / path).write_bytes(f"must not be read: {path}\n".encode())
    agent.configure(flow([logs / "*.log", logs / "web[12]/{access,error}.log",
                          logs / "deep/**/*.txt", logs / "q?.dat", logs / "set/[!ad].out"],
                         exclude=["skip.*"]))
    for path in yes[::2]:
        quill(logs / path).write(50)
    agent.start()
    for path in yes[1::2]:
        quill(logs / path).write(50)
    wait_until_delivered()
    time.sleep(0.3)
    agent.terminate()
    oracle.expect()


def test_new_directories(logs, agent, oracle, quill, wait_until_delivered):
    """Made, filled, and filled deeper, faster than anybody can watch; moved in from elsewhere;
    removed and made again."""
    agent.configure(flow(logs / "**/*.log")).start()
    for n in range(20):
        deep = logs / f"day{n}/host/app"
        deep.mkdir(parents=True)
        quill(deep / "app.log").write(20)
    wait_until_delivered()
    elsewhere = logs.parent / "elsewhere/x/y"
    elsewhere.mkdir(parents=True)
    quill(elsewhere / "moved.log").write(20)
    os.rename(logs.parent / "elsewhere", logs / "moved")
    wait_until_delivered()
    quill(logs / "moved/x/y/later.log").write(20)
    wait_until_delivered()
    for n in range(3):
        again = logs / "again/and"
        again.mkdir(parents=True)
        quill(again / "app.log").write(10).close()
        wait_until_delivered()
        os.unlink(again / "app.log")
        again.rmdir()
        again.parent.rmdir()
    agent.terminate()
    oracle.expect()


def test_a_directory_of_the_same_name(logs, agent, oracle, quill, wait_until_delivered):
    """One is moved aside and another takes its name, over and over; so the watch of the old one
    and the look at the new one come in any order."""
    agent.configure(flow(logs / "**/*.log")).start()
    for n in range(40):
        today = logs / "today/app"
        today.mkdir(parents=True)
        quill(today / f"{n}.log").write(10).close()
        time.sleep(0.01 * (n % 4))
        os.rename(logs / "today", logs / f"before{n}")
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_a_parent_directory_appears_later(logs, agent, oracle, quill, wait_until_delivered):
    """Of the directories that the globs name, hardly one is there at the start."""
    agent.configure(flow([logs / "srv/*/log/*.log", logs / "opt/app/log/app.log"])).start()
    (logs / "srv").mkdir()
    time.sleep(0.1)
    (logs / "srv/one/log").mkdir(parents=True)
    quill(logs / "srv/one/log/a.log").write(10)
    (logs / "opt/app/log").mkdir(parents=True)
    quill(logs / "opt/app/log/app.log").write(10)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_a_file_moved_into_the_glob(logs, agent, oracle, quill, wait_until_delivered):
    agent.configure(flow(logs / "*.log")).start()
    q = quill(logs / "app.tmp").write(100)
    q.rename(logs / "app.log")
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_new_lines_are_seen_at_once(logs, agent, oracle, quill, wait_until_delivered):
    """inotify, not a poll: a file and a line in it arrive within a moment, linger apart."""
    agent.configure(flow(logs / "*.log", linger="10ms")).start()
    waits = []
    for n in range(10):
        q = quill(logs / f"{n}.log")
        begin = time.monotonic()
        q.write(1)
        wait_until_delivered()
        waits.append(time.monotonic() - begin)
    agent.terminate()
    oracle.expect()
    assert sorted(waits)[5] < 0.5, waits


def test_from_end(logs, agent, oracle, quill, wait_until_delivered):
    """What was there before the first start is not sent; what comes after is, all of it: lines in
    old files, new files, and what was written while it was stopped."""
    old = quill(logs / "old.log", "before")
    old.raw(b"before the start\n" * 10000)
    agent.configure(flow(logs / "*.log", start="end")).start()
    q = quill(logs / "old.log").write(500)
    new = quill(logs / "new.log").write(500)
    wait_until_delivered()
    agent.terminate()
    q.write(500)
    new.write(500)
    quill(logs / "born-meanwhile.log").write(500)
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_from_end_killed_at_once(logs, agent, oracle, quill, wait_until_delivered):
    """The end where it began is on disk before it says "following": a kill right then loses
    nothing that is written afterwards."""
    quill(logs / "old.log", "before").raw(b"before the start\n" * 1000)
    agent.configure(flow(logs / "*.log", start="end")).start()
    agent.kill()
    quill(logs / "old.log").write(100)
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_from_end_in_the_middle_of_a_line(logs, agent, oracle, quill, wait_until_delivered):
    """The end of the file may be the middle of a line.  Its second half is no line: it is sent
    with its first half or not at all."""
    q = quill(logs / "app.log")
    text = q.next_line()
    q.raw(b"old line\n" + text[:30])
    agent.configure(flow(logs / "*.log", start="end")).start()
    q.raw(text[30:])
    q.write(100)
    wait_until_delivered(100)
    time.sleep(0.3)
    agent.terminate()
    verdict = oracle.expect(lost=1)
    assert set(oracle.missing().values() and oracle.missing()[b"q0"]) <= {0}, verdict


# -- bad files ---------------------------------------------------------------------------------

def test_bad_files_do_not_stop_the_others(logs, agent, oracle, quill, wait_until_delivered):
    """Directories, FIFOs, devices, links to nowhere and in circles: all match the glob."""
    (logs / "directory.log").mkdir()
    os.mkfifo(logs / "fifo.log")
    os.symlink(logs / "nowhere", logs / "dangling.log")
    os.symlink(logs / "circle.log", logs / "circle.log")
    os.symlink("/dev/zero", logs / "zero.log")
    os.symlink(logs, logs / "up.log")
    agent.configure(flow(logs / "**/*.log", follow_symlinks=True))
    q = quill(logs / "good.log").write(500)
    agent.start()
    os.mkfifo(logs / "fifo2.log")
    (logs / "directory2.log").mkdir()
    quill(logs / "good2.log").write(500)
    q.write(500)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_a_file_without_permission(place, logs, agent, oracle, quill, wait_until_delivered):
    """It says which file, once, and goes on; when the permission comes, the file is read."""
    if os.geteuid() == 0:
        nobody = 65534
        for directory in (place, logs):
            os.chown(directory, nobody, nobody)
        agent.user = nobody
        if agent.run("--version").returncode not in (0, 2):
            pytest.skip("nobody cannot run the agent: its place is closed to others")
    agent.configure(flow(logs / "*.log"))
    secret = quill(logs / "secret.log").write(100)
    os.chmod(secret.path, 0)
    q = quill(logs / "good.log").write(500)
    agent.start()
    line = agent.wait_log(r"secret\.log")
    assert line.startswith(("<3>", "<4>")) and "ermission" in line, line
    q.write(500)
    wait_until_delivered(1000)
    time.sleep(0.5)
    assert len(agent.complaints(r"secret\.log")) <= 2, agent.log
    os.chmod(secret.path, 0o644)
    wait_until_delivered(timeout=90)
    agent.terminate()
    oracle.expect()


@pytest.mark.parametrize("follow", [False, True])
def test_symlinks(place, logs, agent, oracle, quill, wait_until_delivered, follow):
    """Followed only on request; and a file that is reached twice is read once."""
    target = place / "target.txt"
    target.touch()
    os.symlink(target, logs / "link.log")
    os.symlink(target, logs / "other.log")
    agent.configure(flow(logs / "*.log", follow_symlinks=follow)).start()
    quill(logs / "good.log").write(100)
    if follow:
        quill(target).write(100)
    else:
        target.write_bytes(b"must not be read\n")
    wait_until_delivered()
    time.sleep(0.3)
    agent.terminate()
    oracle.expect()


def test_hard_links_are_one_file(logs, agent, oracle, quill, wait_until_delivered):
    q = quill(logs / "a.log").write(100)
    os.link(logs / "a.log", logs / "b.log")
    agent.configure(flow(logs / "*.log")).start()
    q.write(100)
    wait_until_delivered()
    time.sleep(0.3)
    agent.terminate()
    oracle.expect()


def test_names_of_any_bytes(logs, agent, oracle, quill, wait_until_delivered):
    """A file may be called anything but "/"; the state remembers it across a restart."""
    names = [b"with space.log", b"new\nline.log", b"\xff\xfe.log", "\u65e5\u672c.log".encode(),
             b"quote\"back\\slash.log", b"tab\t.log", b"-rf.log", b"%s%n.log", b"x" * 250 + b".log"]
    quills = [quill(os.path.join(os.fsencode(logs), name).decode(errors="surrogateescape"))
              for name in names]
    agent.configure(flow(logs / "*.log")).start()
    for q in quills:
        q.write(20)
    wait_until_delivered()
    agent.terminate()
    for q in quills:
        q.write(20)
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_one_file_in_two_flows(logs, agent, oracle, quill):
    """Each flow reads it for itself."""
    agent.configure(flow(logs / "*.log", name="a"), flow(logs / "app.*", name="b")).start()
    quill(logs / "app.log").write(100)
    deadline = time.monotonic() + 30
    while oracle.poll() + oracle.duplicated < 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    agent.terminate()
    verdict = oracle.expect(duplicated=100)
    assert verdict.duplicated == 100
