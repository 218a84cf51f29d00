"""kinetail queue list, show, verify, retry, drop: what lies aside, beside a running agent."""
import base64
import hashlib
import json
import os
import pty
import re
import subprocess
import threading
import time

import pytest

from harness import PATIENCE, eventually, flow

CSV = {"format": "csv", "fields": ["q", "n", "text"], "on_mismatch": "dead"}
TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def queue(agent):
    """queue("list", …): the command with the agent's configuration."""
    def run(*arguments, status=0, **more):
        done = agent.run("queue", *arguments, "-c", agent.config_file, **more)
        assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
        if status:
            assert done.stderr.startswith("kinetail queue: ") or done.stdout, done.stderr
        return done
    return run


@pytest.fixture
def told(queue):
    """The objects that it prints with --json."""
    def run(*arguments, status=0):
        return [json.loads(one) for one in
                queue(*arguments, "--json", status=status).stdout.splitlines()]
    return run


def bad(number):
    return b"bad,1,2,%d" % number


@pytest.fixture
def aside(logs, agent, told):
    """aside(first, last): the agent runs, and these lines are dead letters now."""
    def write(first, last):
        if agent.process is None:
            agent.configure(flow(logs / "*.log", parse=CSV)).start()
        with open(logs / "a.log", "ab") as file:
            file.write(b"".join(bad(n) + b"\n" for n in range(first, last)))
        eventually(lambda: {bad(n) for n in range(first, last)} <= shown(told),
                   what="the letters", alive=agent.alive)
    return write


def shown(told, *arguments):
    """The records that show shows."""
    return {base64.b64decode(one["record_base64"]) for one in told("show", "--dead", *arguments)}


def segments(agent, kind="log"):
    return sorted((agent.state_dir / "dead" / "s1").glob(f"dead-*.{kind}"))


def contents(agent):
    found = {}
    for path in sorted(agent.state_dir.rglob("*")):
        if "checkpoint" in path.parts and agent.process is not None:
            continue                            # a running agent writes there when it likes
        if path.is_file():
            stat = path.stat()
            found[str(path)] = (hashlib.sha256(path.read_bytes()).hexdigest(), stat.st_mtime_ns)
    return found


def arrived_now(endpoint, *streams):
    return [base64.b64decode(one["data"]) for stream in streams or ["s1"]
            for one in endpoint.records(stream)]


keeps = pytest.mark.endpoint(keep="all", arguments=["--delivery-stream=d1"])


# -- looking -----------------------------------------------------------------------------------

def test_list_and_show(aside, agent, queue, told, logs):
    aside(0, 20)
    agent.terminate()
    before = contents(agent)
    row, = told("list")
    assert list(row) == ["destination", "kind", "records", "bytes", "oldest", "newest", "damaged"]
    assert (row["destination"], row["kind"], row["records"], row["damaged"]) == ("s1", "dead", 20, 0)
    assert row["bytes"] == sum(one.stat().st_size for one in segments(agent))
    assert TIME.fullmatch(row["oldest"]) and row["oldest"] <= row["newest"]
    first = told("show", "s1")[0]
    assert list(first) == ["destination", "kind", "time", "flow", "file", "offset", "end", "reason",
                           "record", "record_base64"]
    assert (first["flow"], first["file"], first["offset"], first["end"]) == \
        ("f", str(logs / "a.log"), 0, 10)
    assert first["record"].encode() == base64.b64decode(first["record_base64"]) == bad(0)
    assert first["reason"] == "has 4 columns, but there are 3 names"
    assert len(told("show", "--limit", 7)) == 7
    assert len(told("show", "--reason", "4 columns")) == 20
    assert told("show", "--reason", "5 columns") == []
    assert len(told("show", "--file", logs / "a.log")) == 20
    assert told("show", "--file", "/a.log") == [] == told("show", "--older-than", "1d")
    assert queue("show", "--raw", "--limit", 2).stdout == "bad,1,2,0\nbad,1,2,1\n"
    assert queue("list").stdout.split()[:3] == ["s1", "dead", "20"]
    assert told("verify")[0]["records"] == 20
    assert "20 records hold, 0 damaged" in queue("verify").stdout
    assert contents(agent) == before                        # all of that has only looked


def test_nothing_is_there(agent, queue, told, logs):
    agent.configure(flow(logs / "*.log"))
    assert "does not exist" in queue("list", status=1).stderr
    agent.state_dir.mkdir()
    assert queue("list").stdout == "" == queue("verify").stdout
    assert "there are neither dead letters nor a spool of 's1'" in queue("show", "s1", status=1).stderr
    assert told("list") == []


@pytest.mark.parametrize("arguments, sentence", [
    (["shwo"], "'shwo' is none of list, show, verify, retry, drop"),
    (["drop", "s1"], "drop: say --dead or --spool"),
    (["drop", "--dead"], "drop: say a destination"),
    (["drop", "--dead", "--spool", "s1"], "say --dead or --spool, not both"),
    (["list", "--apply"], "list takes no --apply"),
    (["show", "s1", "s2"], "'s2' is too much after show"),
    (["show", "--limit", "x"], "--limit x: say a number"),
    (["show", "--raw", "--json"], "say --json or --raw, not both"),
    (["drop", "--dead", "s1", "--older-than", "week"], "--older-than week: say a time"),
    (["drop", "--spool", "s1", "--reason", "x"], "--reason is for dead letters"),
    (["retry", "--dead", ".."], "'..' cannot be a destination"),
    (["show", ""], "'' cannot be a destination"),
    (["show", "\033[31m"], "'\\x1b[31m'"),
    (["show", "s" * 300], "cannot be a destination"),
])
def test_wrong_usage(agent, queue, logs, arguments, sentence):
    agent.configure(flow(logs / "*.log"))
    agent.state_dir.mkdir()
    done = queue(*arguments, status=1 if arguments == ["show", "\033[31m"] else 2)
    assert sentence in done.stderr and "\033" not in done.stderr


def test_names_that_want_out(aside, agent, queue):
    """No destination leads out of its directory."""
    aside(0, 1)
    (agent.state_dir / "other").mkdir()
    for name in ("../other", "s1/../../other", "/etc", "./s1"):
        assert "there are no dead letters of" in \
            queue("drop", "--dead", name, "--apply", status=1).stderr
    assert "but of s1" in queue("show", "--dead", "s2", status=1).stderr


def test_what_stands_in_records_does_nothing_to_a_terminal(logs, agent, queue, told):
    agent.configure(flow(logs / "*.log", parse=CSV)).start()
    record = "bad,\033[2J\033]0;x\007,‮,\x9b1m,€".encode() + b",\xff"
    (logs / "a.log").write_bytes(record + b"\n")
    eventually(lambda: shown(told), what="the letter", alive=agent.alive)
    text = queue("show").stdout
    assert "\033" not in text and "\007" not in text and "‮" not in text and "\x9b" not in text
    assert "\\x1b[2J" in text and "€" in text and "\\xff" in text
    one, = told("show")
    assert base64.b64decode(one["record_base64"]) == record and "record" not in one
    with subprocess.Popen(agent.command("queue", "show", "--raw", "-c", agent.config_file),
                          stdout=subprocess.PIPE) as raw:
        assert raw.stdout.read() == record + b"\n"


def test_on_a_terminal_there_are_headings(aside, agent):
    aside(0, 1)
    ours, theirs = pty.openpty()
    done = subprocess.run(agent.command("queue", "list", "-c", agent.config_file), stdout=theirs,
                          check=True)
    os.close(theirs)
    text = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.returncode == 0 and text.startswith("DESTINATION") and "RECORDS" in text


def test_damage_is_found_and_the_rest_is_shown(aside, agent, queue, told):
    aside(0, 10)
    agent.terminate()
    segment, = segments(agent)
    text = bytearray(segment.read_bytes())
    at = [m.start() for m in re.finditer(b"\n", text)][4] + 1       # the fifth letter
    text[at + 30] ^= 1
    segment.write_bytes(text)
    assert told("list")[0]["records"] == 9 and told("list")[0]["damaged"] == 1
    hurt, total = told("verify", status=1)
    assert (hurt["segment"], hurt["at"], hurt["state"]) == (segment.name, at, "damaged")
    assert (total["records"], total["damaged"]) == (9, 1)
    assert f"{segment.name}:{at}: damaged" in queue("verify", status=1).stdout
    assert len(shown(told)) == 9 and bad(4) not in shown(told)
    assert "1 places are damaged" in queue("show").stderr
    # A torn end is no damage, and a start changes nothing.
    segment.write_bytes(text[:-5])
    assert told("verify", status=1)[1]["damaged"] == 1
    before = segment.read_bytes()
    agent.start()
    assert segment.read_bytes() == before
    # What is damaged is kept when all else of it is gone.
    agent.terminate()
    queue("drop", "--dead", "s1", "--apply")
    assert [one.name for one in segments(agent, "log*")] == [segment.name + ".damaged"]
    assert told("list")[0]["records"] == 0 and told("list")[0]["damaged"] == 1
    agent.start()
    assert agent.complaints("1 files are damaged")


def test_no_permission(aside, agent, queue):
    aside(0, 3)
    agent.terminate()
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    agent.config_file.chmod(0o644)
    agent.user = 65534
    done = agent.run("queue", "list", "--state-dir", agent.state_dir)
    assert done.returncode == 1 and "Permission denied" in done.stderr
    assert "run this as the agent's user or as root" in done.stderr
    agent.user = None


def test_the_start_says_what_waits(aside, agent, queue):
    aside(0, 3)
    agent.terminate()
    agent.start()
    said = agent.wait_log("dead letters of s1:")
    assert re.search(r"1 files, \d+ bytes wait for a person: see kinetail queue list", said)
    agent.terminate()
    queue("drop", "--dead", "s1", "--apply")
    agent.start()
    assert "dead letters" not in agent.log


# -- drop --------------------------------------------------------------------------------------

def test_drop(aside, agent, queue, told):
    """A plan changes nothing; done is done, beside the agent and after its restart."""
    aside(0, 30)
    before = contents(agent)
    plan, = told("drop", "--dead", "s1", "--limit", 10)
    assert (plan["records"], plan["of"], plan["applied"]) == (10, 30, False)
    assert "10 of 30 records" in queue("drop", "--dead", "s1", "--limit", 10).stdout
    assert "nothing is changed without --apply" in queue("drop", "--dead", "s1").stdout
    assert contents(agent) == before
    assert told("drop", "--dead", "s1", "--limit", 10, "--apply")[0]["applied"]
    assert shown(told) == {bad(n) for n in range(10, 30)}
    assert told("list")[0]["records"] == 20
    aside(30, 40)                                           # the agent goes on in its segment
    assert shown(told) == {bad(n) for n in range(10, 40)}
    agent.kill()
    agent.start()
    assert shown(told) == {bad(n) for n in range(10, 40)}
    aside(40, 50)
    assert told("drop", "--dead", "s1", "--apply")[0]["records"] == 40
    assert shown(told) == set() and told("drop", "--dead", "s1")[0]["of"] == 0
    assert len(segments(agent)) == 2                        # the agent's …
    agent.terminate()
    agent.start()
    assert segments(agent, "*") == []                       # … until it starts again


def test_drop_by_what_they_are(logs, agent, queue, told):
    agent.configure(flow(logs / "*.log", parse=CSV)).start()
    (logs / "a.log").write_bytes(b"1,2,3,4\n1,2,3,4,5\n")
    (logs / "b.log").write_bytes(b"1,2,3,4\n")
    eventually(lambda: len(told("show")) == 3, what="the letters", alive=agent.alive)
    assert told("drop", "--dead", "s1", "--older-than", "1h", "--apply")[0]["records"] == 0
    assert told("drop", "--dead", "s1", "--reason", "has 5 columns", "--apply")[0]["records"] == 1
    assert told("drop", "--dead", "s1", "--file", logs / "b.log", "--apply")[0]["records"] == 1
    assert [one["file"] for one in told("show")] == [str(logs / "a.log")]
    time.sleep(1.1)
    assert told("drop", "--dead", "s1", "--older-than", "1s", "--apply")[0]["records"] == 1


def test_as_root_for_the_agents_user(logs, agent, queue, told, place):
    """What root marks belongs to whoever has the store."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    agent.user = 65534
    agent.configure(flow(logs / "*.log", parse=CSV))
    os.chmod(place, 0o777)
    agent.start()
    (logs / "a.log").write_bytes(b"1,2,3,4\n1,2,3,4\n")
    eventually(lambda: len(told("show")) == 2, what="the letters", alive=agent.alive)
    agent.user = None
    queue("drop", "--dead", "s1", "--limit", 1, "--apply")
    marks, = segments(agent, "done")
    assert marks.stat().st_uid == 65534 and marks.stat().st_mode & 0o777 == 0o600
    assert len(told("show")) == 1


# -- retry -------------------------------------------------------------------------------------

@keeps
def test_retry(aside, agent, queue, told, endpoint):
    aside(0, 1200)
    before = contents(agent)
    plan, = told("retry", "--dead", "s1")
    assert (plan["records"], plan["sent"], plan["stay"], plan["applied"]) == (1200, 0, 0, False)
    assert "1200 would be sent again, 0 stay" in queue("retry", "--dead", "s1").stdout
    assert contents(agent) == before and arrived_now(endpoint) == []
    done, = told("retry", "--dead", "s1", "--limit", 700, "--apply")
    assert (done["records"], done["sent"], done["refused"], done["stay"]) == (700, 700, 0, 0)
    assert sorted(arrived_now(endpoint)) == sorted(bad(n) for n in range(700))
    assert shown(told) == {bad(n) for n in range(700, 1200)}
    assert "500 sent, 0 refused, 0 stay" in queue("retry", "--dead", "s1", "--apply").stdout
    assert sorted(arrived_now(endpoint)) == sorted(bad(n) for n in range(1200))     # each once
    assert len({one["key"] for one in endpoint.records()}) > 1000
    assert told("retry", "--dead", "s1", "--apply")[0]["of"] == 0
    agent.terminate()
    agent.start()
    assert segments(agent, "*") == []


@keeps
@pytest.mark.parametrize("fault", [
    {"kind": "partial", "rate": 0.5}, {"kind": "throttle", "count": 2},
    {"kind": "error", "status": 500, "count": 2}, {"kind": "reset_before_store", "count": 2},
    {"kind": "garbage", "count": 1}, {"kind": "slow", "delay_ms": 500},
], ids=lambda one: one["kind"])
def test_retry_through_trouble(aside, agent, told, endpoint, fault):
    aside(0, 100)
    endpoint.faults(fault)
    done, = told("retry", "--dead", "s1", "--apply")
    assert done["sent"] == 100
    assert set(arrived_now(endpoint)) == {bad(n) for n in range(100)}
    assert shown(told) == set()


def test_retry_without_a_service(aside, agent, queue, told, endpoint):
    """It gives up in bounded time, and nothing is lost."""
    aside(0, 100)
    endpoint.stop()
    began = time.monotonic()
    done = queue("retry", "--dead", "s1", "--apply", status=1, timeout=60)
    assert time.monotonic() - began < 60 * PATIENCE
    assert "does not take them now" in done.stderr and "100 stay" in done.stdout
    assert shown(told) == {bad(n) for n in range(100)}


def test_retry_that_only_a_person_can_help(aside, agent, queue, told, logs):
    aside(0, 10)
    agent.terminate()
    agent.configure(flow(logs / "*.log", parse=CSV), secret="wrong" * 8)
    done = queue("retry", "--dead", "s1", "--apply", status=1)
    assert "check credentials" in done.stderr and "10 stay" in done.stdout
    agent.configure(flow(logs / "*.log", parse=CSV, stream="s2"))
    assert "no flow of the configuration sends to 's1' any more" in \
        queue("retry", "--dead", "s1", "--apply", status=1).stderr
    assert len(told("show", "s1")) == 10


@pytest.mark.parametrize("form", ["garbled", "plain", "json", "xml"])
def test_what_a_service_says_does_nothing_to_a_terminal(aside, agent, queue, endpoint, form):
    aside(0, 3)
    endpoint.fault("error", code="AccessDeniedException", status=400, form=form,
                   message="\x1b[2J \x9b31m \u202e")
    done = queue("retry", "--dead", "s1", "--apply", status=1)
    assert "3 stay" in done.stdout or "3 refused" in done.stdout
    assert not any(c in done.stderr + done.stdout for c in "\x1b\x9b\u202e")


@keeps
def test_what_must_not_be_sent_stays(logs, agent, queue, told, endpoint):
    """Redaction gave up on it: it holds what was to be hidden."""
    agent.configure(flow(logs / "*.log", parse=CSV,
                         redact=[{"pattern": "(x|xx)+$", "replace": "-"}])).start()
    (logs / "a.log").write_bytes(b"1,2,3,4\n" + b"x" * 5000 + b"y\n")
    eventually(lambda: len(told("show")) == 2, what="the letters", alive=agent.alive)
    hidden = told("show", "--reason", "redact")[0]
    assert hidden["unredacted"] is True
    kept, done = told("retry", "--dead", "s1", "--apply", status=1)
    assert kept["outcome"] == "stays" and "must not be sent as it is" in kept["reason"]
    assert (done["sent"], done["stay"]) == (1, 1)
    assert arrived_now(endpoint) == [b"1,2,3,4"]
    assert "0 would be sent again, 1 stay" in queue("retry", "--dead", "s1").stdout


@keeps
def test_one_that_is_refused_stays(aside, agent, told, endpoint):
    """Alone, or with its whole request: the others go."""
    aside(0, 600)
    endpoint.fault("partial", code="ValidationException", message="not this one",
                   pattern="^bad,1,2,(17|555)$")
    *refused, done = told("retry", "--dead", "s1", "--apply", status=1)
    assert [one["outcome"] for one in refused] == ["refused"] * 2
    assert refused[0]["reason"] == "ValidationException: not this one"
    assert (done["sent"], done["refused"], done["stay"]) == (598, 2, 0)
    endpoint.fault("error", code="ValidationException", status=400, message="all of it",
                   pattern="^bad,1,2,17$")
    refused, done = told("retry", "--dead", "s1", "--apply", status=1)
    assert (done["sent"], done["refused"]) == (1, 1)
    assert shown(told) == {bad(17)}
    endpoint.heal()
    assert told("retry", "--dead", "s1", "--apply")[0]["sent"] == 1
    assert sorted(arrived_now(endpoint)) == sorted(bad(n) for n in range(600))


@keeps
def test_halved_until_the_culprit_stands_alone(aside, agent, told, endpoint):
    aside(0, 500)
    endpoint.fault("error", code="ValidationException", status=400, message="no",
                   pattern="^bad,1,2,(3|77|78|499)$")
    *refused, done = told("retry", "--dead", "s1", "--apply", status=1)
    assert len(refused) == 4 and (done["sent"], done["refused"]) == (496, 4)
    assert endpoint.stats()["faults_fired"]["error"] < 50
    assert shown(told) == {bad(n) for n in (3, 77, 78, 499)}


@keeps
def test_larger_than_a_record_stays(logs, agent, queue, told, endpoint):
    """Whether it takes larger ones, a stream says itself; of a delivery stream it is known.  And what is
    only the beginning of a line is not sent as if it were all of it."""
    grows = {"on_oversize": "dead", "parse": {"format": "csv", "fields": ["text"]}}
    agent.configure(flow(logs / "*.log", **grows),
                    flow(logs / "*.log", "g", delivery_stream="d1", **grows)).start()
    (logs / "a.log").write_bytes(b"\\" * 700_000 + b"\n")
    eventually(lambda: len(told("show")) == 2, what="the letters", alive=agent.alive)
    kept, done = told("retry", "--dead", "s1", "--apply", status=1)
    assert kept["outcome"] == "refused" and "InvalidArgumentException" in kept["reason"]
    assert (done["refused"], done["stay"]) == (1, 0)
    kept, done = told("retry", "--dead", "firehose:d1", "--apply", status=1)
    assert (kept["outcome"], kept["reason"]) == ("stays", "is larger than a record may be")
    queue("drop", "--dead", "s1", "--apply")
    queue("drop", "--dead", "firehose:d1", "--apply")
    (logs / "b.log").write_bytes(b"x" * 1_500_000 + b"\n")
    eventually(lambda: len(told("show")) == 2, what="the letters", alive=agent.alive)
    assert told("show", "s1")[0]["cut"] is True
    kept, done = told("retry", "--dead", "s1", "--apply", status=1)
    assert (kept["outcome"], kept["reason"]) == \
        ("stays", "is only the beginning of its line, which was longer than a record may be")
    assert max(map(len, arrived_now(endpoint, "s1", "d1")), default=0) < 10


@pytest.mark.long
@keeps
def test_killed_in_the_middle_of_a_retry(aside, agent, told, endpoint, dice):
    """Nothing is lost; what was on its way goes twice, at most."""
    aside(0, 6000)
    for _ in range(6):
        with subprocess.Popen(agent.command("queue", "retry", "--dead", "s1", "--apply", "-c",
                                            agent.config_file), stdout=subprocess.DEVNULL,
                              env=agent.environment()) as one:
            time.sleep(dice.random() / 5)
            one.kill()
    told("retry", "--dead", "s1", "--apply")
    got = arrived_now(endpoint)
    assert set(got) == {bad(n) for n in range(6000)}
    assert len(got) <= 6000 + 6 * 500
    assert shown(told) == set()


# -- together ----------------------------------------------------------------------------------

def test_two_commands_at_once(aside, agent, queue, endpoint):
    """One of them works, the other says so."""
    aside(0, 50)
    endpoint.fault("slow", delay_ms=3000 * PATIENCE)
    with subprocess.Popen(agent.command("queue", "retry", "--dead", "s1", "--apply", "-c",
                                        agent.config_file), stdout=subprocess.DEVNULL,
                          env=agent.environment()) as one:
        time.sleep(1)
        assert "another kinetail queue is at work on 's1'" in \
            queue("drop", "--dead", "s1", "--apply", status=1).stderr
        queue("list")
        queue("drop", "--dead", "s1")
        assert one.wait() == 0


def test_the_agent_writes_while_we_read(logs, agent, told):
    """Whatever is half written is no damage, and each letter is shown once."""
    agent.configure(flow(logs / "*.log", parse=CSV)).start()
    stop = threading.Event()

    def write():
        with open(logs / "a.log", "ab", buffering=0) as file:
            for n in range(1_000_000):
                if stop.is_set():
                    return
                file.write(bad(n) + b"," + b"x" * 3000 + b"\n")
                time.sleep(0.001)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for _ in range(30):
            assert all(one["damaged"] == 0 for one in told("verify"))
        offsets = [one["offset"] for one in told("show")]
        assert len(offsets) == len(set(offsets))
        told("drop", "--dead", "s1", "--apply")
        assert all(one["damaged"] == 0 for one in told("verify"))
    finally:
        stop.set()
        writing.join()


def test_the_disk_is_full(aside, agent, queue, told, place):
    """What could not be marked stays, and is said."""
    aside(0, 100)
    agent.terminate()
    limit = ["prlimit", f"--fsize=20"]
    done = subprocess.run(limit + agent.command("queue", "drop", "--dead", "s1", "--reason", "4",
                                                "--apply", "-c", agent.config_file),
                          restore_signals=False,        # SIGXFSZ stays ignored, and it is an error
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1, done
    assert "cannot be marked as dropped" in done.stderr
    assert shown(told) == {bad(n) for n in range(100)}
    queue("drop", "--dead", "s1", "--apply")
    assert shown(told) == set()


# -- the spool ---------------------------------------------------------------------------------

SPOOL = {"patience": "300ms", "min_free": "1MiB"}


def line(number):
    return b"line %06d" % number


@pytest.fixture(params=["kinesis", "firehose"])
def spooled(request, logs, agent, endpoint, told):
    """spooled(count): the service is away, and so many lines wait in the spool; the agent runs."""
    to = {} if request.param == "kinesis" else {"delivery_stream": "d1", "newline": False}

    def write(count, records=50):
        agent.configure(flow(logs / "*.log", records=records, **to), spool=SPOOL).start()
        endpoint.stop()
        with open(logs / "a.log", "ab") as file:
            file.write(b"".join(line(n) + b"\n" for n in range(count)))
        eventually(lambda: sum(one["records"] for one in told("list")) >= count, what="the spool",
                   alive=agent.alive)
        return "s1" if request.param == "kinesis" else "firehose:d1"
    return write


def arrived_anywhere(endpoint):
    return sorted(arrived_now(endpoint, "s1", "d1"))


@keeps
def test_the_spool_is_shown(spooled, agent, queue, told, logs):
    name = spooled(1000)
    row, = told("list")
    assert (row["destination"], row["kind"], row["records"], row["damaged"]) == \
        (name, "spool", 1000, 0)
    assert TIME.fullmatch(row["oldest"]) and row["oldest"] <= row["newest"]
    records = sorted(told("show", name), key=lambda one: one["offset"])
    assert [one["record"].encode() for one in records] == [line(n) for n in range(1000)]
    assert (records[0]["file"], records[0]["offset"], records[0]["end"]) == \
        (str(logs / "a.log"), 0, 12)
    assert ("key" in records[0]) == (name == "s1") and "reason" not in records[0]
    assert len(told("show", "--spool", "--limit", 3)) == 3
    assert re.fullmatch(r"line \d{6}\n", queue("show", "--raw", "--limit", 1).stdout)
    assert "1000 records hold, 0 damaged" in queue("verify").stdout
    assert "there are no dead letters" in queue("show", "--dead", name, status=1).stderr
    assert f"an agent (process {agent.process.pid})" in queue("retry", "--spool", name).stdout
    for more in [], ["--apply"]:
        assert told("retry", "--spool", name, *more) == [
            {"destination": name, "kind": "spool", "agent": agent.process.pid, "applied": False}]
    agent.kill()


@keeps
def test_the_spool_is_dropped_beside_the_agent(spooled, agent, told, endpoint):
    """But for what it has on its way already, nothing of it arrives."""
    name = spooled(10000, 500)
    plan, = told("drop", "--spool", name)
    assert (plan["records"], plan["of"], plan["applied"]) == (10000, 10000, False)
    assert told("drop", "--spool", name, "--older-than", "1h", "--apply")[0]["records"] == 0
    assert told("list")[0]["records"] == 10000
    assert told("drop", "--spool", name, "--apply")[0]["records"] == 10000
    assert told("list")[0]["records"] == 0 and told("show", "--spool") == []
    endpoint.start()
    time.sleep(2)
    agent.terminate()
    agent.start()
    time.sleep(1)
    got = arrived_anywhere(endpoint)
    assert len(got) <= 2500 and len(got) == len(set(got))   # four batches and a frame


@keeps
def test_the_spool_is_dropped_with_no_agent(spooled, agent, told, endpoint):
    name = spooled(500)
    agent.kill()
    assert told("drop", "--spool", name, "--apply")[0]["records"] == 500
    endpoint.start()
    agent.start()
    time.sleep(2)
    assert arrived_anywhere(endpoint) == []                 # nor is it read from the file again


@keeps
def test_the_spool_is_sent_with_no_agent(spooled, agent, queue, told, endpoint):
    name = spooled(1000)
    agent.kill()
    done, = told("retry", "--spool", name, "--apply", status=1)
    assert (done["sent"], done["stay"]) == (0, 1000)
    assert told("list")[0]["records"] == 1000
    endpoint.start()
    before = contents(agent)
    assert "1000 would be sent" in queue("retry", "--spool", name).stdout
    assert contents(agent) == before                        # not even the lock's file
    done, = told("retry", "--spool", name, "--apply")
    assert (done["records"], done["sent"], done["stay"]) == (1000, 1000, 0)
    assert arrived_anywhere(endpoint) == [line(n) for n in range(1000)]
    assert told("list")[0]["records"] == 0
    agent.start()
    time.sleep(1)
    assert len(arrived_anywhere(endpoint)) == 1000          # the agent knows


@keeps
def test_one_that_is_refused_stays_in_the_spool(spooled, agent, told, endpoint):
    """And is not sent again with its frame, which goes when it goes."""
    name = spooled(1000)
    agent.kill()
    endpoint.start()
    endpoint.fault("error", code="ValidationException", status=400, message="no",
                   pattern="^line 000(017|018|555)$")
    *refused, done = told("retry", "--spool", name, "--apply", status=1)
    assert len(refused) == 3 and (done["sent"], done["refused"]) == (997, 3)
    assert sorted(one["record"] for one in told("show")) == \
        ["line 000017", "line 000018", "line 000555"]
    endpoint.heal()
    done, = told("retry", "--spool", name, "--apply")
    assert (done["records"], done["sent"]) == (3, 3)
    assert arrived_anywhere(endpoint) == [line(n) for n in range(1000)]


def test_damage_in_the_spool(spooled, agent, queue, told):
    name = spooled(1000)
    agent.kill()
    segment, = (agent.state_dir / "spool" / name).glob("*.seg")
    text = bytearray(segment.read_bytes())
    at = [one.start() for one in re.finditer(b"KTFR", text)]
    text[at[2] + 300] ^= 4
    segment.write_bytes(text)
    *hurt, total = told("verify", status=1)
    assert [(one["segment"], one["at"]) for one in hurt] == [(segment.name, at[2])]
    assert (total["records"], total["damaged"]) == (950, 1)
    assert f"{segment.name}:{at[2]}: damaged" in queue("verify", status=1).stdout
    assert len(told("show", "--spool")) == 950
    segment.write_bytes(b"not a segment of ours, but long enough to look like one ........")
    assert told("list")[0]["records"] == 0
    assert told("verify", status=1)[0]["at"] == 0


@keeps
def test_dead_letters_for_firehose(logs, agent, told, endpoint):
    """What was set aside has the newline that all records there have."""
    agent.configure(flow(logs / "*.log", parse=CSV, delivery_stream="d1")).start()
    (logs / "a.log").write_bytes(b"1,2,3,4\n1,2,3,5\n")
    eventually(lambda: len(told("show")) == 2, what="the letters", alive=agent.alive)
    assert told("list")[0]["destination"] == "firehose:d1"
    assert told("retry", "--dead", "firehose:d1", "--apply")[0]["sent"] == 2
    assert arrived_now(endpoint, "d1") == [b"1,2,3,4\n", b"1,2,3,5\n"]
