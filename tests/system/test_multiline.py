"""Events of several lines: each is one record, however its lines come and whatever happens meanwhile.

An event here is a line of the oracle's with newlines in it: its number stands in its first line and the
check at the end of its last, so that half an event is torn, and an event that goes out twice, too late
or not at all is found as a line would be."""
import json
import os
import re
import time
import zlib

import pytest

from harness import eventually, flow
from oracle import line, records

START = r"^\S"
LONG = "60s"                    # longer than any test: an event that leaves has not left by timeout
MEMORY_MAX = 64 << 20


def event(file_id, seq, count=None):
    """The event with this number, as a list of its lines without their newlines."""
    count = count or 1 + (seq * 7919) % 9
    head = line(file_id, seq).rpartition(b" ")[0].replace(b"\x00", b"0")
    more = [b"\tat %b %d.%d %b" % (file_id, seq, k, head[:k * 37 % 60]) for k in range(1, count)]
    text = b"\n".join([head, *more])
    return (text + b" %08x" % zlib.crc32(text)).split(b"\n")


class Teller:
    """Writes events to one file, line by line if need be, and tells the oracle."""

    def __init__(self, path, oracle, file_id="q0"):
        self.path, self.oracle, self.id = path, oracle, file_id.encode()
        self.count = 0
        self.open()

    def open(self):
        self.file = open(self.path, "ab", buffering=0)
        return self

    def next(self, count=None):
        """The lines of the next event, with their newlines; who asks writes them."""
        text = event(self.id, self.count, count)
        self.count += 1
        self.oracle.wrote({self.id: self.count})
        return [one + b"\n" for one in text]

    def raw(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.file.fileno(), view):]

    def write(self, count):
        self.raw(b"".join(b"".join(self.next()) for _ in range(count)))
        return self

    def end(self):
        """The beginning of an event that nobody waits for: the one before it is whole now."""
        self.raw(b"end\n")
        return self

    def rotate(self, to):
        """As logrotate's `create`: renamed, and opened anew."""
        os.rename(self.path, to)
        self.file.close()
        return self.open()


@pytest.fixture
def tell(oracle):
    made = []

    def start(path, file_id=None):
        made.append(Teller(path, oracle, file_id or f"q{len(made)}"))
        return made[-1]

    yield start
    for one in made:
        one.file.close()


def events(files, timeout=LONG, start=START, more=None, **flow_more):
    return flow(files, linger="10ms", multiline={"start": start, "timeout": timeout, **(more or {})},
                **flow_more)


def offsets(agent):
    """{path: where the checkpoint is}, as `kinetail checkpoint list` tells."""
    done = agent.run("-c", agent.config_file, "checkpoint", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {one["path"]: one["offset"] for one in map(json.loads, done.stdout.splitlines())}


def arrived(agent):
    return records(agent.endpoint.record_file)


# -- how the bytes come ------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["once", "lines", "seven", "halves"])
def test_one_write_or_ten(logs, agent, oracle, tell, wait_until_delivered, how):
    agent.configure(events(logs / "*.log")).start()
    t = tell(logs / "app.log")
    if how == "once":
        t.write(300)
    for _ in range(0 if how == "once" else 12):
        text = b"".join(t.next())
        if how == "lines":
            pieces = text.splitlines(True)
        elif how == "seven":
            pieces = [text[at:at + len(text) // 7 + 1] for at in range(0, len(text), len(text) // 7 + 1)]
        else:
            pieces = [text[:len(text) // 2], text[len(text) // 2:]]
        for piece in pieces:
            t.raw(piece)
            time.sleep(0.025)
    t.end()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_events_larger_than_a_read(logs, agent, oracle, tell, wait_until_delivered):
    """Thousands of lines, hundreds of KiB: what is read at once has to grow, and to shrink again."""
    agent.configure(events(logs / "*.log", more={"max_lines": 100000})).start()
    t = tell(logs / "app.log")
    for count in (1, 3000, 2, 7000, 1, 1, 5000):
        t.raw(b"".join(t.next(count)))
    t.end()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


@pytest.mark.parametrize("join", [{}, {"join": "lines", "join_bytes": "1MiB"}], ids=["alone", "joined"])
@pytest.mark.parametrize("most", [10, 700, 9000])
def test_a_backlog_of_events(logs, agent, oracle, tell, wait_until_delivered, dice, most, join):
    """Megabytes of them, of one line to almost as much as one may have: where a read ends is no end."""
    agent.configure(events(logs / "*.log", more={"max_lines": 100000}, **join))
    t = tell(logs / "app.log")
    while os.path.getsize(t.path) < 12_000_000:
        t.raw(b"".join(b"".join(t.next(dice.randrange(1, most))) for _ in range(1 + 5000 // most)))
    t.end()
    agent.start()
    if not join:
        wait_until_delivered()
    else:
        size = os.path.getsize(t.path) - len("end\n")
        eventually(lambda: sum(len(one) + 1 for one in arrived(agent)) >= size, alive=agent.alive, step=0.2)
        for record in arrived(agent):
            for one in re.split(rb"\n(?!\t)", record):
                oracle.judge(one)
        oracle._position = os.path.getsize(agent.endpoint.record_file)
    agent.terminate()
    oracle.expect()


@pytest.mark.parametrize("rules,lines,expected", [
    ({"continue": r"^\s"}, [b"a", b" b", b"c", b"\td", b"e"], [b"a\n b", b"c\n\td"]),
    ({"end": r";$"}, [b"a", b"b;", b"c;", b"d", b"", b"e;", b"f"], [b"a\nb;", b"c;", b"d\n\ne;"]),
    ({"start": "^BEGIN", "end": "^END"}, [b"x", b"BEGIN", b"1", b"END", b"y", b"BEGIN", b"BEGIN", b"END"],
     [b"x", b"BEGIN\n1\nEND", b"y", b"BEGIN", b"BEGIN\nEND"]),
    ({"start": r"^\d", "continue": "^ "}, [b"1", b" a", b"b", b" c", b"2"], [b"1\n a", b"b\n c"]),
    ({"continue": r"\\\r?$"}, [b"a", b"b\\\r", b"c\\", b"d"], [b"a\nb\\\r\nc\\"]),
], ids=["continue", "end", "start-end", "start-continue", "return"])
def test_patterns(logs, agent, rules, lines, expected):
    """Which lines belong together, at once and each for itself."""
    agent.configure(flow(logs / "*.log", linger="10ms", in_flight=1, multiline={"timeout": LONG, **rules}))
    agent.start()
    with open(logs / "a.log", "wb") as file:
        file.write(b"".join(one + b"\n" for one in lines))
    eventually(lambda: len(arrived(agent)) >= len(expected), alive=agent.alive)
    with open(logs / "b.log", "wb", buffering=0) as file:
        for one in lines:
            file.write(one + b"\n")
            time.sleep(0.02)
    eventually(lambda: len(arrived(agent)) >= 2 * len(expected), alive=agent.alive)
    time.sleep(0.2)
    assert arrived(agent) == 2 * expected


def test_several_files_interleaved(logs, agent, oracle, tell, wait_until_delivered, dice):
    """Their lines never mix, and one that waits does not hold up the others."""
    agent.configure(events(logs / "*.log")).start()
    tellers = [tell(logs / f"{n}.log") for n in range(5)]
    waiting = {t: [] for t in tellers}
    for n in range(600):
        t = dice.choice(tellers[1:])
        waiting[t] = waiting[t] or t.next()
        t.raw(waiting[t].pop(0))
        if n % 20 == 0:
            time.sleep(0.02)
    tellers[0].raw(b"".join(tellers[0].next()))     # and nothing behind it
    for t in tellers[1:]:
        t.raw(b"".join(waiting[t]))
        t.end()
    wait_until_delivered(sum(t.count for t in tellers[1:]))
    assert not oracle.saw("q0", 1)
    tellers[0].end()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


# -- the last one ------------------------------------------------------------------------------

@pytest.mark.parametrize("newline", [True, False], ids=["whole", "half"])
def test_the_last_event_leaves_by_timeout(logs, agent, oracle, tell, wait_until_delivered, newline):
    """And not before.  A line without a newline behind it is not lost, and is no part of it."""
    agent.configure(events(logs / "*.log", timeout="1500ms")).start()
    t = tell(logs / "app.log")
    written = time.monotonic()
    t.raw(b"".join(t.next(4)) + (b"" if newline else b"\tat half"))
    wait_until_delivered()
    assert time.monotonic() - written >= 1.5
    if not newline:
        t.raw(b" a line\n")
        eventually(lambda: b"\tat half a line" in arrived(agent), alive=agent.alive)
    t.write(3).end()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(torn=int(not newline))


def test_every_line_begins_the_timeout_anew(logs, agent, oracle, tell, wait_until_delivered):
    agent.configure(events(logs / "*.log", timeout="2s")).start()
    t = tell(logs / "app.log")
    for one in t.next(6):
        t.raw(one)
        time.sleep(0.7)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_the_timeout_begins_anew_at_a_start(logs, agent, oracle, tell, wait_until_delivered):
    """An event that was open when the agent ended still leaves, by timeout, from the next one."""
    agent.configure(events(logs / "*.log", timeout="1500ms")).start()
    t = tell(logs / "app.log").write(50)
    t.raw(b"".join(t.next(3)))
    wait_until_delivered(50)
    agent.terminate()
    begun = time.monotonic()
    agent.start()
    wait_until_delivered()
    assert time.monotonic() - begun >= 1.5
    agent.terminate()
    oracle.expect()


def test_the_last_event_of_a_deleted_file(logs, agent, oracle, tell, wait_until_delivered):
    """Nothing comes after it: it leaves.  Its file is let go."""
    agent.configure(events(logs / "*.log", timeout="1s")).start()
    t = tell(logs / "app.log").write(20)
    wait_until_delivered(19)
    t.file.close()
    os.unlink(logs / "app.log")
    wait_until_delivered()
    eventually(lambda: not any("app.log" in name for name in agent.open_files()), 60, alive=agent.alive)
    agent.terminate()
    oracle.expect()


# -- restarts ----------------------------------------------------------------------------------

@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_restart_in_the_middle_of_an_event(logs, agent, oracle, tell, wait_until_delivered, end):
    """Between its lines and within them.  The checkpoint never lies in an event."""
    agent.configure(events(logs / "*.log")).start()
    path = logs / "app.log"
    t = tell(path).write(10)
    for count, cut in ((5, 1), (5, 3), (2, 1.5), (9, 0.5), (3, 2.9), (1, 0.3), (4, 3)):
        begin = os.path.getsize(path)
        text = t.next(count)
        at = sum(map(len, text[:int(cut)]))
        whole = b"".join(text)
        if cut % 1 and int(cut) < count:
            at += int(len(text[int(cut)]) * (cut % 1))
        t.raw(whole[:at])
        wait_until_delivered(t.count - (1 if cut >= 1 else 2))
        time.sleep(0.1)
        getattr(agent, end)()
        if end == "terminate":                  # what may be known to be whole is known
            known = offsets(agent)[str(path)]
            assert known == begin if cut >= 1 else known <= begin, (count, cut)
        agent.start()
        time.sleep(0.1)
        assert oracle.poll() < t.count
        t.raw(whole[at:])
    t.end()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=0 if end == "terminate" else t.count)


def test_the_checkpoint_moves_past_whole_events_only(logs, agent, oracle, tell, dice):
    """Whatever was written when it was asked for: it stands at the beginning of an event."""
    agent.configure(events(logs / "*.log")).start()
    path = logs / "app.log"
    t = tell(path)
    begins, size, seen = [0], 0, set()
    for n in range(25):
        for one in t.next():
            t.raw(one)
            size += len(one)
            if dice.random() < 0.2:
                time.sleep(0.1)
        begins.append(size)
        if n % 4 == 3:
            time.sleep(1.2)                     # longer than between two commits
            seen.update(offsets(agent).values())
    assert seen <= set(begins), (seen, begins)
    assert len(seen) > 3
    agent.kill()


def test_sigterm_leaves_the_open_event(logs, agent, oracle, tell, wait_until_delivered, endpoint):
    """Draining neither waits for it nor sends half of it; what was whole is delivered."""
    agent.configure(events(logs / "*.log"), drain_timeout="20s").start()
    t = tell(logs / "app.log").write(200)
    wait_until_delivered(199)
    text = t.next(5)
    t.raw(b"".join(text[:3]))
    time.sleep(0.2)
    assert agent.terminate() < 10
    assert oracle.poll() == 200 and oracle.torn == 0
    t.raw(b"".join(text[3:]))
    t.end()
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


# -- rotation ----------------------------------------------------------------------------------

@pytest.mark.parametrize("glob", ["*.log", "app.log*"],
    ids=["outside", "inside"])
@pytest.mark.parametrize("when", ["running", "stopped", "killed"])
def test_an_event_goes_on_in_the_next_file(logs, agent, oracle, tell, wait_until_delivered, glob, when):
    """Begun in app.log, renamed, gone on in the new app.log: one record."""
    agent.configure(events(logs / glob)).start()
    t = tell(logs / "app.log")
    for n in range(1, 5):
        t.write(20)
        text = t.next(6)
        t.raw(b"".join(text[:n]))
        wait_until_delivered(t.count - 1, timeout=15)
        time.sleep(1.2 if when == "killed" else 0.1)    # the checkpoint of what was settled is durable
        if when == "stopped":
            agent.terminate()
        elif when == "killed":
            agent.kill()
        for old in range(n - 1, 0, -1):
            os.rename(logs / f"app.log.{old}", logs / f"app.log.{old + 1}")
        t.rotate(logs / "app.log.1")
        time.sleep(0.1)
        t.raw(b"".join(text[n:]))
        if when != "running":
            agent.start()
        t.write(5)
        wait_until_delivered(t.count - 1, timeout=15)
    t.end()
    wait_until_delivered(timeout=15)
    agent.terminate()
    oracle.expect(duplicated=0 if when != "killed" else 5)


def test_an_event_over_three_files(logs, agent, oracle, tell, wait_until_delivered):
    """Rotated twice within one event, and restarted in each file."""
    agent.configure(events(logs / "*.log")).start()
    t = tell(logs / "app.log").write(10)
    text = t.next(7)
    t.raw(b"".join(text[:2]))
    wait_until_delivered(10)
    t.rotate(logs / "app.log.1")
    t.raw(b"".join(text[2:4]))
    time.sleep(0.4)
    agent.terminate()
    agent.start()
    os.rename(logs / "app.log.1", logs / "app.log.2")
    t.rotate(logs / "app.log.1")
    time.sleep(0.4)
    t.raw(b"".join(text[4:6]))
    time.sleep(0.4)
    agent.terminate()
    agent.start()
    t.raw(text[6])
    t.end()
    wait_until_delivered(timeout=15)
    agent.terminate()
    oracle.expect()


def test_an_event_that_goes_on_is_acknowledged_in_both_files(logs, agent, oracle, tell, endpoint,
                                                              wait_until_delivered):
    """While the service is down nothing of it may be forgotten, in neither file."""
    agent.configure(events(logs / "*.log")).start()
    t = tell(logs / "app.log").write(10)
    text = t.next(4)
    t.raw(b"".join(text[:2]))
    wait_until_delivered(10)
    endpoint.fault("error")
    t.rotate(logs / "app.log.1")
    t.raw(b"".join(text[2:]))
    t.write(10).end()
    time.sleep(1.5)
    agent.kill()
    endpoint.heal()
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=11)


def test_rotated_and_no_new_file(logs, agent, oracle, tell, wait_until_delivered):
    """The last event of a file that was moved away leaves by timeout, there being nothing it could go on
    in; and what comes later is an event of its own."""
    agent.configure(events(logs / "*.log", timeout="1s")).start()
    t = tell(logs / "app.log").write(10)
    wait_until_delivered(9)
    os.rename(logs / "app.log", logs / "app.log.1")
    wait_until_delivered()
    t.file.close()
    t.open().write(10).end()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


@pytest.mark.parametrize("when", ["running", "stopped"])
def test_copytruncate_in_the_middle_of_an_event(place, logs, agent, oracle, tell, wait_until_delivered,
                                                when):
    """Nothing is lost: all lines come, and all events but the one that was cut in two are whole."""
    agent.configure(events(logs / "*.log", timeout="2s")).start()
    t = tell(logs / "app.log").write(30)
    text = t.next(6)
    t.raw(b"".join(text[:3]))
    wait_until_delivered(30)
    if when == "stopped":
        agent.terminate()
    (logs / "app.log.1").write_bytes((logs / "app.log").read_bytes())
    os.truncate(logs / "app.log", 0)
    if when == "stopped":
        agent.start()
    time.sleep(0.3)
    t.raw(b"".join(text[3:]))
    t.write(30).end()
    wait_until_delivered(60)
    eventually(lambda: set(one.rstrip(b"\n") for one in text) <= set(b"\n".join(arrived(agent)).split(b"\n")),
               alive=agent.alive, what="the arrival of all lines of the event that was cut")
    agent.terminate()
    oracle.poll()
    assert oracle.duplicated == 0 and oracle.reordered == 0
    got = b"\n".join(arrived(agent)).split(b"\n")
    assert all(got.count(one.rstrip(b"\n")) == 1 for one in text)


# -- bounds ------------------------------------------------------------------------------------

@pytest.mark.parametrize("rules", [{"start": "^NEVER"}, {"end": "NEVER$"}, {"continue": "."}],
                         ids=["start", "end", "continue"])
def test_a_pattern_that_never_helps_stays_bounded(logs, agent, endpoint, rules):
    """All lines would be one event: it has max_lines lines or max_bytes bytes at most, and memory has
    its bounds, too."""
    agent.configure(flow(logs / "*.log", linger="10ms", in_flight=1,
                         multiline={"timeout": "1s", "max_lines": 1000, "max_bytes": "256KiB", **rules}))
    agent.start()
    text = [b"%07d %b" % (n, b"x" * (10 if n < 50_000 else 991)) for n in range(100_000)]
    with open(logs / "app.log", "wb") as file:
        file.write(b"\n".join(text) + b"\n")
    eventually(lambda: arrived(agent)[-1:] and arrived(agent)[-1].endswith(text[-1]), alive=agent.alive,
               step=0.2)
    got = [one.split(b"\n") for one in arrived(agent)]
    assert [one for event_ in got for one in event_] == text
    assert max(map(len, got)) == 1000 and len(got[0]) == 1000
    assert max(map(len, arrived(agent))) <= 256 << 10
    assert 250 < len(got[-2]) <= 262
    if not agent.sanitized:
        assert agent.memory() < MEMORY_MAX


def test_an_event_of_just_the_size(logs, agent):
    """max_lines and max_bytes, newlines included: what would come after is an event of its own."""
    agent.configure(flow(logs / "*.log", linger="10ms", in_flight=1,
                         multiline={"start": START, "timeout": LONG, "max_lines": 4, "max_bytes": "2KiB"}))
    agent.start()
    full = [b"a" * 1023, b" " + b"b" * 1022]
    told = [[b"1", b" 2", b" 3", b" 4"], [b" 5"], full, [b" "], [b"c" + b"d" * 5000], [b" e"], [b"f"]]
    with open(logs / "app.log", "wb") as file:
        file.write(b"".join(one + b"\n" for event_ in told for one in event_) + b"end\n")
    expected = [b"\n".join(event_) for event_ in told]
    eventually(lambda: len(arrived(agent)) >= len(expected), alive=agent.alive)
    assert arrived(agent) == expected


def test_an_event_of_a_mebibyte(logs, agent):
    """As large as a record may be, key included, it is whole; one byte more and it is cut, once."""
    agent.configure(events(logs / "*.log", key="const:k", in_flight=1, more={"max_lines": 100000}))
    agent.start()
    size = (1 << 20) - 1
    lines = [b"x" + b"a" * 998] + [b"\t" + b"%08d" % n * 124 + b"......" for n in range(size // 1000)]
    text = b"\n".join(lines)
    fits = text[:size - 1] + b"!"
    longer = text[:size - 1] + b"!!"
    with open(logs / "app.log", "wb") as file:
        for one in (fits, b"between", longer, b"after", b"end"):
            file.write(one + b"\n")
    eventually(lambda: b"after" in arrived(agent), alive=agent.alive)
    got = arrived(agent)
    assert got[0] == fits and got[1] == b"between" and got[-1] == b"after"
    assert b"".join(got[2:-1]).replace(b"...(truncated)", b"")[:1000] == longer[:1000]
    assert all(len(one) <= size for one in got)


def test_an_event_at_max_bytes_is_two_events(logs, agent):
    """max_bytes smaller than a record: nothing is cut, it is divided between lines."""
    agent.configure(events(logs / "*.log", in_flight=1, more={"max_bytes": "64KiB", "max_lines": 100000}))
    agent.start()
    lines = [b"x"] + [b"\t%06d %b" % (n, b"y" * 500) for n in range(2000)]
    with open(logs / "app.log", "wb") as file:
        file.write(b"\n".join(lines) + b"\nend\n")
    eventually(lambda: len(b"\n".join(arrived(agent)).split(b"\n")) >= len(lines), alive=agent.alive)
    got = arrived(agent)
    assert b"\n".join(got[:18]) == b"\n".join(lines)[:len(b"\n".join(got[:18]))]
    assert all(60 << 10 < len(one) <= 64 << 10 for one in got[:-1])


# -- all of it at once -------------------------------------------------------------------------

@pytest.mark.parametrize("round", range(2))
def test_anything_may_happen(logs, agent, oracle, tell, wait_until_delivered, dice, round):
    """Events told in pieces by two writers, with rotations between lines and ends of the agent between
    any two bytes: no event is lost or torn, and only a kill sends one twice."""
    agent.configure(events(logs / "*.log", records=20)).start()
    tellers = [tell(logs / f"{n}.log") for n in range(2)]
    pending = {t: b"" for t in tellers}
    rotations = {t: 0 for t in tellers}
    for _ in range(160):
        t = dice.choice(tellers)
        what = dice.random()
        pending[t] = pending[t] or b"".join(t.next())
        if what < 0.75:
            cut = dice.randrange(1, len(pending[t]) + 1) if dice.random() < 0.4 else len(pending[t])
            t.raw(pending[t][:cut])
            pending[t] = pending[t][cut:]
        elif what < 0.87:
            rest, newline, after = pending[t].partition(b"\n")
            t.raw(rest + newline)               # rotated between two lines
            pending[t] = after
            rotations[t] += 1
            if agent.process is not None:       # see `settled` below
                time.sleep(0.15)
            t.rotate(logs / f"{t.path.name}.{rotations[t]}")
        elif what < 0.91 and agent.process is not None:
            agent.terminate()
        elif what < 0.94 and agent.process is not None:
            agent.kill()
        elif agent.process is None:
            agent.start()
        if dice.random() < 0.3:
            time.sleep(0.05)
    if agent.process is None:
        agent.start()
    for t in tellers:
        t.raw(pending[t])
        t.end()
    wait_until_delivered(timeout=15)
    agent.terminate()
    assert oracle.torn == 0
    oracle.expect(duplicated=None)
