"""kinetail checkpoint list, show, set, verify: what it says of a real store, and what it may do."""
import base64
import hashlib
import json
import os
import pty
import re
import subprocess
import time

import pytest

from harness import PATIENCE, eventually, flow


@pytest.fixture
def command(agent):
    """command("list", …): kinetail checkpoint with the agent's configuration."""
    def run(*arguments, status=0, **more):
        done = agent.run("checkpoint", *arguments, "-c", agent.config_file, **more)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        if status:
            assert done.stderr.startswith("kinetail checkpoint: ") or done.stdout, done.stderr
        return done
    return run


@pytest.fixture
def listed(command):
    def run(*arguments, status=0):
        return [json.loads(one) for one in
                command(*arguments, "--json", status=status).stdout.splitlines()]
    return run


@pytest.fixture
def delivered(logs, agent, quill, wait_until_delivered):
    """Three files, delivered, and the agent stopped."""
    agent.configure(flow(logs / "*.log", name="web")).start()
    quills = [quill(logs / f"{n}.log").write(50 + n) for n in range(3)]
    wait_until_delivered()
    agent.terminate()
    return quills


def store_of(agent):
    """Everything in the state directory but the lock: names, contents, times."""
    found = {}
    for path in sorted(agent.state_dir.rglob("*")):
        if path.is_file() and path.name != "lock":
            stat = path.stat()
            found[str(path)] = (hashlib.sha256(path.read_bytes()).hexdigest(), stat.st_mtime_ns,
                                stat.st_ino, stat.st_uid)
    return found


def newest(agent):
    return max((agent.state_dir / "checkpoint").glob("*.journal"))


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x20
    path.write_bytes(data)


# -- list and show -----------------------------------------------------------------------------

def test_list(delivered, agent, command, listed, logs):
    before = store_of(agent)
    rows = {one["path"]: one for one in listed("list")}
    assert len(rows) == 3
    for q in delivered:
        stat = q.path.stat()
        one = rows[str(q.path)]
        assert list(one) == ["flow", "path", "offset", "size", "lag_bytes", "inode", "device",
                             "born", "head_bytes", "state"]
        assert (one["flow"], one["offset"], one["size"], one["lag_bytes"], one["state"]) == \
            ("web", stat.st_size, stat.st_size, 0, "ok")
        assert (one["inode"], one["device"]) == (stat.st_ino, stat.st_dev)
        assert one["born"] is None or re.fullmatch(
            r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", one["born"])
        assert 0 < one["head_bytes"] <= 1024
    # It goes on, one is gone, one is another.
    offsets = [q.path.stat().st_size for q in delivered]
    delivered[0].raw(b"x" * 100)
    delivered[1].path.unlink()
    delivered[2].path.rename(logs / "elsewhere")
    delivered[2].path.write_bytes(b"something else\n")
    rows = listed("list")
    assert [(one["state"], one["offset"], one["size"], one["lag_bytes"]) for one in rows] == [
        ("behind", offsets[0], offsets[0] + 100, 100), ("gone", offsets[1], None, None),
        ("replaced", offsets[2], None, None)]
    text = command("list").stdout.splitlines()
    assert len(text) == 3 and len({one.index(str(logs)) for one in text}) == 1, text
    assert [one.split()[1:4] for one in text] == [
        [str(offsets[0]), str(offsets[0] + 100), "100"], [str(offsets[1]), "gone", "-"],
        [str(offsets[2]), "replaced", "-"]]
    assert store_of(agent) == before


def test_show(delivered, agent, command, listed, logs):
    one, two = delivered[0].path, delivered[1].path
    text = command("show", one).stdout
    assert text.splitlines()[0] == str(one) and f"offset   {one.stat().st_size}" in text
    assert re.search(r"^  state    ok$", text, re.MULTILINE)
    assert [each["path"] for each in listed("show", one, two)] == [str(one), str(two)]
    # Renamed while nobody looked: known by both names.
    renamed = logs / "renamed"
    one.rename(renamed)
    for name in one, renamed:
        text = command("show", name).stdout
        assert f"now      {renamed}" in text and "state    gone" in text, text
    done = subprocess.run([agent.binary, "-c", agent.config_file, "checkpoint", "show", "renamed"],
                          cwd=logs, capture_output=True, text=True, check=True)
    assert str(one) in done.stdout
    assert "no such file" in command("show", logs / "never", status=1).stderr
    assert "no flow 'mail'" in command("show", "--flow", "mail", one, status=1).stderr
    command("show", status=2)


def test_flow(logs, agent, quill, wait_until_delivered, listed, command):
    agent.configure(flow(logs / "a.log", name="a"), flow(logs / "b.log", name="b")).start()
    quill(logs / "a.log").write(3)
    quill(logs / "b.log").write(3)
    wait_until_delivered()
    agent.terminate()
    assert [one["flow"] for one in listed("list", "--flow", "b")] == ["b"]
    assert [one["flow"] for one in listed("list")] == ["a", "b"] or \
        [one["flow"] for one in listed("list")] == ["b", "a"]
    assert "no flow" in command("list", "--flow", "c", status=1).stderr
    assert listed("show", "--flow", "a", logs / "a.log")[0]["flow"] == "a"
    command("show", "--flow", "a", logs / "b.log", status=1)


HOSTILE = [b"new\nline.log", b"\x1b[31mred\x1b]0;title\x07.log", b"\xff\xfe\x80.log",
           b"back\\slash.log", b"c1\xc2\x9b31m.log", b"turn\xe2\x80\xaegol.log", b" .log",
           b"x" * 251 + b".log", "\u65e5\u672c.log".encode()]


def test_hostile_names(logs, agent, quill, wait_until_delivered, command, listed):
    agent.configure(flow(logs / "*.log")).start()
    paths = [os.fsencode(logs) + b"/" + name for name in HOSTILE]
    for path in paths:
        quill(os.fsdecode(path)).write(2)
    wait_until_delivered()
    agent.terminate()

    def raw(*arguments):
        done = subprocess.run([agent.binary, "checkpoint", *arguments, "-c", agent.config_file],
                              capture_output=True, check=False, timeout=30 * PATIENCE)
        return done.returncode, done.stdout, done.stderr

    for arguments in ["list"], ["show", *paths], ["verify"]:
        status, out, err = raw(*arguments)
        assert status == 0, err
        for output in out, err:
            text = output.decode()                      # UTF-8, all of it
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text), text
    assert len(raw("list")[1].splitlines()) == len(paths)
    status, _, err = raw("show", b"/no\x1b[31msuch\nfile")
    assert status == 1 and err.count(b"\n") == 1 and b"\x1b" not in err, err
    rows = listed("list")
    told = {base64.b64decode(one["path_base64"]) if "path_base64" in one
            else one["path"].encode() for one in rows}
    assert told == set(paths)
    assert sum("path_base64" in one for one in rows) == 1       # only what is no UTF-8
    damaged = paths[1]
    os.unlink(damaged)
    status, out, _ = raw("verify")
    assert status == 1 and b"\x1b" not in out and b"\\x1b[31mred" in out


def test_on_a_terminal(delivered, agent):
    """Columns with names."""
    main, other = pty.openpty()
    subprocess.run([agent.binary, "checkpoint", "list", "-c", agent.config_file], stdout=other,
                   check=True, timeout=30 * PATIENCE)
    os.close(other)
    lines = os.read(main, 65536).decode().splitlines()
    os.close(main)
    assert lines[0].split() == ["FLOW", "OFFSET", "SIZE", "LAG", "PATH"] and len(lines) == 4
    assert lines[0].index("PATH") == lines[1].index(str(delivered[0].path.parent))


def test_beside_a_running_agent(logs, agent, oracle, writer, wait_until_delivered, command,
                                listed):
    """Under load, with kills and new generations: always whole, and nothing is lost by looking."""
    agent.configure(flow(logs / "*.log", name="web", records=100)).start()
    writers = [writer(logs / f"{n}.log", rate=3000) for n in range(3)]
    seen = {}
    eventually(lambda: len(listed("list")) == 3, what="three files in the store")
    for turn in range(20):
        rows = listed("list")
        assert len(rows) == 3
        for one in rows:
            assert one["offset"] >= seen.get(one["path"], 0), "it went back"
            assert one["state"] in ("ok", "behind") and one["size"] >= one["offset"]
            seen[one["path"]] = one["offset"]
        assert len(listed("show", logs / "0.log")) == 1
        command("verify")
        if turn % 7 == 6:
            agent.kill()
            agent.start()
        time.sleep(0.05)
    for w in writers:
        w.stop()
    wait_until_delivered()
    agent.terminate()
    assert all(one["lag_bytes"] == 0 for one in listed("list"))
    oracle.expect(duplicated=None)


# -- what is not there -------------------------------------------------------------------------

@pytest.mark.parametrize("arguments", [["list"], ["show", "/x"], ["verify"],
                                       ["set", "--flow", "f", "/x", "0"],
                                       ["set", "--flow", "f", "/x", "0", "--apply"]])
def test_no_store(agent, logs, place, arguments, command):
    agent.configure(flow(logs / "*.log"))
    done = command(*arguments, status=1)
    assert "does not exist" in done.stderr and done.stderr.count("\n") == 1
    assert not agent.state_dir.exists(), "looking must not make it"
    agent.state_dir.mkdir()
    assert "no checkpoint" in command(*arguments, status=1).stderr
    (agent.state_dir / "checkpoint").mkdir()
    assert "is empty" in command(*arguments, status=1).stderr
    assert not list((agent.state_dir / "checkpoint").iterdir())


def test_an_empty_one(agent, logs, command, listed):
    agent.configure(flow(logs / "*.log")).start()
    agent.terminate()
    assert command("list").stdout == "" and listed("list") == []
    assert "0 sources" in command("verify").stdout


def test_without_a_configuration(delivered, agent, place):
    """--state-dir is enough to look."""
    for arguments in (["checkpoint", "list", "--state-dir", agent.state_dir],
                      ["--state-dir", agent.state_dir, "-c", place / "none", "checkpoint", "list"]):
        done = agent.run(*arguments)
        assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr
    done = agent.run("checkpoint", "list", "-c", place / "none")
    assert done.returncode == 2 and "none" in done.stderr


@pytest.mark.parametrize("arguments,said", [
    (["lost"], "none of list"), (["list", "--colour"], "--colour"), (["list", "x"], "too much"),
    (["list", "--apply"], "no --apply"), (["verify", "--flow", "f"], "no --flow"),
    (["set", "--flow", "f", "/x"], "a path and a place"), (["set", "/x", "0"], "--flow"),
    (["set", "--flow", "f", "/x", "0", "--json"], "no --json"), (["list", "--flow"], "--flow"),
])
def test_wrong_usage(agent, arguments, said):
    done = agent.run("checkpoint", *arguments)
    assert done.returncode == 2 and said in done.stderr and "usage:" in done.stderr, done.stderr
    assert done.stdout == ""


def test_help(agent):
    for arguments in [], ["--help"], ["list", "--help"]:
        done = agent.run("checkpoint", *arguments)
        assert done.returncode == 0 and "usage: kinetail checkpoint" in done.stdout
    assert "checkpoint" in agent.run("--help").stdout
    assert agent.run("check", "extra").returncode == 2


# -- set ---------------------------------------------------------------------------------------

def lines_of(path):
    """Where its lines begin, and its end."""
    return [0] + [hit.end() for hit in re.finditer(b"\n", path.read_bytes())]


def test_set(delivered, agent, command, listed, oracle, wait_until_delivered):
    """Ten lines back: those ten come again, and nothing else."""
    q = delivered[1]
    starts = lines_of(q.path)
    before = store_of(agent)
    said = command("set", "--flow", "web", q.path, starts[-11]).stdout
    assert f"from byte {starts[-1]} to byte {starts[-11]}" in said and "without --apply" in said
    assert f"{starts[-1] - starts[-11]} bytes are sent again" in said
    assert store_of(agent) == before
    said = command("set", "--flow", "web", q.path, starts[-11], "--apply").stdout
    assert "without" not in said and said.count("\n") == 1
    rows = {one["path"]: one for one in listed("list")}
    assert rows[str(q.path)]["offset"] == starts[-11] and len(rows) == 3
    assert rows[str(delivered[0].path)]["lag_bytes"] == 0
    command("verify")
    agent.start()
    q.write(1)
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=10)


def test_set_forward_and_to_the_end(delivered, agent, command, listed, oracle,
                                    wait_until_delivered):
    """Skipped lines are not sent; what comes after them is."""
    q = delivered[0]
    q.raw(b"not wanted\n" * 5 + b"nor")
    said = command("set", "--flow", "web", q.path, "end", "--apply").stdout
    assert "55 bytes are not sent" in said
    assert {one["path"]: one["lag_bytes"] for one in listed("list")}[str(q.path)] == 3
    q.raw(b" this\n")
    command("set", "--flow", "web", q.path, "end", "--apply")
    agent.start()
    q.write(5)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_set_to_the_start(delivered, agent, command, oracle, wait_until_delivered):
    command("set", "--flow", "web", delivered[2].path, "start", "--apply")
    agent.start()
    delivered[2].write(1)
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=52)


def test_set_inside_a_line(delivered, agent, command):
    q = delivered[0]
    starts = lines_of(q.path)
    before = store_of(agent)
    for apply in [], ["--apply"]:
        err = command("set", "--flow", "web", q.path, starts[3] + 1, *apply, status=1).stderr
        assert f"begin at {starts[3]} and at {starts[4]}" in err
        err = command("set", "--flow", "web", q.path, starts[-1] + 1, *apply, status=1).stderr
        assert f"only {starts[-1]} bytes" in err and f"begins at {starts[-1]}" in err
    q.raw(b"half")
    err = command("set", "--flow", "web", q.path, starts[-1] + 2, status=1).stderr
    assert f"last line, which begins at {starts[-1]}" in err
    for wrong in "12x", "", "+3", "0x10", "99999999999999999999999", "middle":
        assert "is no place" in command("set", "--flow", "web", q.path, wrong, status=2).stderr
    assert store_of(agent) == before


def test_set_refuses(delivered, agent, command, logs, place):
    path = delivered[0].path
    before = store_of(agent)
    err = command("set", "--flow", "mail", path, 0, status=1).stderr
    assert "no flow 'mail'" in err and "web" in err
    assert "No such file" in command("set", "--flow", "web", logs / "no.log", 0, status=1).stderr
    (logs / "link.log").symlink_to(path)
    assert "symbolic link" in command("set", "--flow", "web", logs / "link.log", 0,
                                      status=1).stderr
    assert "no regular file" in command("set", "--flow", "web", logs, 0, status=1).stderr
    os.mkfifo(logs / "fifo.log")
    assert "no regular file" in command("set", "--flow", "web", logs / "fifo.log", 0,
                                        status=1).stderr
    (place / "other.log").write_bytes(b"a\n")
    assert "not among the files" in command("set", "--flow", "web", place / "other.log", 2,
                                            "--apply", status=1).stderr
    assert store_of(agent) == before


def test_set_under_a_running_agent(delivered, agent, command, oracle, wait_until_delivered):
    agent.start()
    pid = agent.process.pid
    path = delivered[0].path
    before = store_of(agent)
    err = command("set", "--flow", "web", path, 0, "--apply", status=1).stderr
    assert f"process {pid}" in err and "stop it" in err
    assert "from byte" in command("set", "--flow", "web", path, 0).stdout
    assert store_of(agent) == before
    assert (agent.state_dir / "lock").read_text().strip() == str(pid)
    delivered[0].write(5)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_set_a_file_that_is_not_known(delivered, agent, command, listed, logs, oracle, quill,
                                      wait_until_delivered):
    new = quill(logs / "new.log").write(20)
    starts = lines_of(new.path)
    said = command("set", "--flow", "web", new.path, starts[15], "--apply").stdout
    assert "was not known" in said and f"{starts[15]} bytes are not sent" in said
    assert len(listed("list")) == 4
    agent.start()
    new.write(3)
    wait_until_delivered(50 + 51 + 52 + 8)
    agent.terminate()
    verdict = oracle.verdict()
    assert (verdict.lost, verdict.duplicated, verdict.torn) == (15, 0, 0), verdict


def test_set_a_renamed_file(delivered, agent, command, listed, logs, oracle, quill,
                            wait_until_delivered):
    """Rotated twice while the agent was stopped: it is still known, and its successors, one of
    them outside the globs, are still read."""
    q = delivered[0]
    starts = lines_of(q.path)
    path = q.path
    q.rename(f"{path}.2")
    quill(path).write(9).rename(f"{path}.1")
    quill(path).write(7)
    said = command("set", "--flow", "web", q.path, starts[-6], "--apply").stdout
    assert f"from byte {starts[-1]} to byte {starts[-6]}" in said
    assert len(listed("list")) == 3
    agent.start()
    wait_until_delivered()
    time.sleep(0.3)
    agent.terminate()
    oracle.expect(duplicated=5)


def test_set_is_no_sign_of_life(delivered, agent, command):
    """When the store was written last tells the agent which files are new to it; what the command
    writes is no word of the agent's."""
    old_ns = newest(agent).stat().st_mtime_ns - 3600 * 10**9
    os.utime(newest(agent), ns=(old_ns, old_ns))
    command("set", "--flow", "web", delivered[0].path, "start", "--apply")
    assert newest(agent).stat().st_mtime_ns == old_ns


def test_set_on_a_damaged_store(delivered, agent, command):
    """The agent's start knows what to make of damage; the command must not hide it."""
    flip(newest(agent), newest(agent).read_bytes().index(b"\nat ") + 5)
    before = store_of(agent)
    err = command("set", "--flow", "web", delivered[0].path, 0, "--apply", status=1).stderr
    assert "damaged" in err and "start the agent" in err
    assert store_of(agent) == before
    agent.start()
    agent.terminate()
    command("set", "--flow", "web", delivered[0].path, 0, "--apply")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_set_as_root_leaves_the_store_to_its_owner(delivered, agent, command):
    for path in [agent.state_dir, *agent.state_dir.rglob("*")]:
        os.chown(path, 4711, 4712)
    command("set", "--flow", "web", delivered[0].path, 0, "--apply")
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in agent.state_dir.rglob("*")}
    assert owners == {(4711, 4712)}


# -- verify ------------------------------------------------------------------------------------

def test_verify(delivered, agent, command, listed, logs):
    before = store_of(agent)
    text = command("verify").stdout
    assert "0 damaged" in text and "3 sources, 0 of them do not hold" in text
    told = listed("verify")
    assert [one["holds"] for one in told if "holds" in one] == [True] * 3
    assert all(one["damaged"] == 0 and one["readable"] for one in told if "damaged" in one)
    # A rotation is no damage.
    delivered[0].rename(f"{delivered[0].path}.1")
    command("verify")
    # These are.
    delivered[0].path.unlink()
    delivered[1].path.write_bytes(b"other\n")
    with open(delivered[2].path, "r+b") as file:
        file.truncate(lines_of(delivered[2].path)[-2])
    text = command("verify", status=1).stdout
    assert re.search(r"0\.log': is gone.* is lost", text), text
    assert re.search(r"1\.log': was truncated or written anew: will be read again", text), text
    assert re.search(r"2\.log': was shortened|2\.log': was truncated", text), text
    assert "3 of them do not hold" in text
    assert [one["holds"] for one in listed("verify", status=1) if "holds" in one] == [False] * 3
    assert store_of(agent) == before


def test_verify_replaced(delivered, agent, command):
    path = delivered[0].path
    path.rename(path.parent.parent / "far away")
    path.write_bytes(b"new\n")
    assert re.search(r"is another file now.*unread rest is lost",
                     command("verify", status=1).stdout)


def test_verify_a_copy(delivered, command, logs):
    """copytruncate while it was stopped: the copy has the rest."""
    path = delivered[0].path
    (logs / "0.log.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)
    command("verify")


def test_verify_damage(delivered, agent, command, listed):
    journal = newest(agent)
    data = journal.read_bytes()
    flip(journal, data.index(b"\nfile ") + 7)
    text = command("verify", status=1).stdout
    assert "has damaged lines" in text and "sent again" in text
    told = [one for one in listed("verify", status=1) if "generation" in one]
    assert told[0]["damaged"] >= 1 and told[0]["problem"]
    # The last line is not whole: a write that was interrupted, no damage.
    journal.write_bytes(data + b"at 1 99")
    command("verify")
    # Nothing of it can be read: the one before is what counts.
    journal.write_bytes(b"\0" * len(data))
    told = [one for one in listed("verify", status=1) if "generation" in one]
    assert told[0]["readable"] is False and "moves it aside" in told[0]["problem"]


def test_a_newer_store(delivered, agent, command):
    """Written by a version of the future: said, not touched."""
    def crc32c(seed, data):
        crc = ~seed & 0xffffffff
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
        return ~crc & 0xffffffff
    number = int(newest(agent).name.split(".")[0]) + 1
    seed = crc32c(0, b"%016x %d" % (77, number))
    text = b"kinetail-checkpoint 2 %016x %d " % (77, number)
    (agent.state_dir / "checkpoint" / f"{number:010}.journal").write_bytes(
        text + b"%08x\n" % crc32c(seed, text))
    before = store_of(agent)
    for arguments in ["list"], ["verify"], ["set", "--flow", "web", delivered[0].path, 0, "--apply"]:
        done = command(*arguments, status=1)
        assert "newer kinetail" in done.stderr + done.stdout
    assert store_of(agent) == before
