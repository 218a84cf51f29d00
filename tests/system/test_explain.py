"""kinetail explain: what becomes of lines, told to people and to programs, and what it cannot do, in one
sentence each.  It sends nothing and needs no service."""
import base64
import gzip
import json
import os
import pty
import subprocess

import pytest

from harness import BINARY, Agent, eventually, flow
from oracle import records

COMBINED = ('127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 200 2326 "-" "curl"\n'
            'nonsense\n').encode()


@pytest.fixture
def explain(place):
    """explain(*arguments, input=b"", status=0): standard output as bytes; and it sends nothing."""
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not there: run make, or say KINETAIL=…", pytrace=False)
    one = Agent(place)

    def run(*arguments, input=b"", status=0):
        done = subprocess.run([str(BINARY), "-c", str(one.config_file), "explain", *map(str, arguments)],
                              input=input, capture_output=True, timeout=60, check=False,
                              env=one.environment(), cwd=place)
        run.said = done.stderr.decode(errors="surrogateescape")
        assert done.returncode == status, (done.returncode, run.said, done.stdout[:500])
        assert status != 0 or run.said == "", run.said
        assert run.started or not (place / "state").exists()
        return done.stdout

    def configure(*flows):
        run.started = (place / "state").exists()
        one.configure(*flows, endpoint="http://127.0.0.1:1")
        return run

    run.configure = configure
    run.agent = one
    return run


def told(output):
    return [json.loads(one) for one in output.splitlines()]


def combined(logs, **more):
    return flow(logs / "*.log", name="web", parse={"format": "combined"}, **more)


# -- for programs ------------------------------------------------------------------------------

def test_json_has_the_fields_that_are_promised(logs, explain):
    """One object for each record, and no member that the design does not name."""
    explain.configure(combined(logs, key="field:host", drop=["/health"]))
    lines = COMBINED.splitlines(True) + [b'1 "GET /health"\n', b"\xff\xfe\n"]
    path = logs / "a.log"
    path.write_bytes(b"".join(lines))
    got = told(explain("--json", path))
    assert [one["outcome"] for one in got] == ["send", "send", "drop", "send"]
    at = 0
    for one, line in zip(got, lines):
        assert (one["flow"], one["file"]) == ("web", str(path))
        assert (one["offset"], one["end"]) == (at, at + len(line))
        at += len(line)
    first, raw, dropped, binary = got
    assert list(first) == ["flow", "file", "offset", "end", "outcome", "key", "record", "record_base64"]
    assert first["key"] == "127.0.0.1"
    assert json.loads(first["record"])["request"] == "GET /a HTTP/1.0"
    assert base64.b64decode(first["record_base64"]).decode() == first["record"]
    assert raw["record"] == "nonsense" and "reason" in raw and len(raw["key"]) == 8
    assert list(dropped) == ["flow", "file", "offset", "end", "outcome", "reason"]
    assert "record" not in binary and base64.b64decode(binary["record_base64"]) == b"\xff\xfe"


def test_dead_has_a_reason_and_its_record(logs, explain):
    explain.configure(flow(logs / "*.log", parse={"format": "json", "on_mismatch": "dead"}))
    one, = told(explain("--json", input=b"{nothing\n"))
    assert (one["outcome"], one["record"]) == ("dead", "{nothing") and one["reason"] and "key" not in one


def test_joined_lines_are_one_record(logs, explain):
    explain.configure(flow(logs / "*.log", join="lines", join_bytes="1KiB"))
    text = b"".join(b"%06d\n" % n for n in range(1000))
    got = told(explain("--json", input=text))
    assert "\n".join(one["record"] for one in got) + "\n" == text.decode()
    assert [one["offset"] for one in got[1:]] == [one["end"] for one in got[:-1]]
    assert len(got) == 7 and got[-1]["end"] == len(text)
    assert len({one["key"] for one in got}) == 7


@pytest.mark.parametrize("newline", [True, False])
def test_the_last_line_and_the_last_event(logs, explain, newline):
    """There is nothing to wait for: what is open at the end of the file is shown."""
    explain.configure(flow(logs / "*.log", multiline={"start": r"^\S", "timeout": "1h"}))
    text = b"a\n b\nc\n d" + (b"\n" if newline else b"")
    assert [one["record"] for one in told(explain("--json", input=text))] == ["a\n b", "c\n d"]


def test_whole(logs, explain):
    """Each file is one event, whatever the patterns say."""
    explain.configure(flow(logs / "*.log"))
    for n, text in enumerate((b"a\nb\n", b"c\n\nd", b"")):
        (logs / f"{n}.txt").write_bytes(text)
    got = told(explain("--json", "--whole", *sorted(logs.iterdir())))
    assert [one["record"] for one in got] == ["a\nb", "c\n\nd", ""]


def test_csv_names_its_columns_to_the_end_of_a_large_file(logs, explain):
    """The header is known in all of it, not only in what is read with it at once."""
    explain.configure(flow(logs / "*.csv", parse={"format": "csv", "header": True}))
    text = b"number,square\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(200_000))
    got = told(explain("--json", input=text))
    assert len(got) == 200_000 and not any("reason" in one for one in got)
    assert json.loads(got[-1]["record"]) == {"number": "199999", "square": str(199999 ** 2)}


# -- files -------------------------------------------------------------------------------------

def test_standard_input_and_pipes(logs, explain):
    explain.configure(combined(logs))
    as_file = logs / "x.log"
    as_file.write_bytes(COMBINED)
    expected = [one["record"] for one in told(explain("--json", as_file))]
    for arguments in ((), ("-",)):
        got = told(explain("--json", *arguments, input=COMBINED))
        assert [one["record"] for one in got] == expected and got[0]["file"] == "-"
    read, write = os.pipe()
    os.write(write, COMBINED)
    os.close(write)
    done = subprocess.run([str(BINARY), "-c", explain.agent.config_file, "explain", "--json",
                           f"/dev/fd/{read}"], pass_fds=[read], capture_output=True, check=False,
                          timeout=60)
    os.close(read)
    assert done.returncode == 0, done.stderr
    assert [one["record"] for one in told(done.stdout)] == expected


@pytest.mark.parametrize("size", [2, 500_000])
def test_compressed_files(logs, explain, size):
    """By their content, whatever they are called; offsets are of what is in them."""
    explain.configure(flow(logs / "*.log"))
    text = b"".join(b"line %d\n" % n for n in range(size))
    for name in ("a.log.gz", "b"):
        (logs / name).write_bytes(gzip.compress(text))
        got = told(explain("--json", logs / name))
        assert [one["record"] for one in got[-2:]] == [f"line {size - 2}", f"line {size - 1}"]
        assert (len(got), got[-1]["end"]) == (size, len(text))


def test_a_damaged_compressed_file(logs, explain):
    explain.configure(flow(logs / "*.log"))
    packed = gzip.compress(b"".join(b"line %d\n" % n for n in range(100_000)), mtime=0)
    (logs / "a.gz").write_bytes(packed[:len(packed) // 2] + b"\x55" * 100)
    explain("--json", logs / "a.gz", status=1)
    assert explain.said.count("\n") == 1 and "a.gz" in explain.said


def test_the_flow_is_chosen_by_the_file(logs, explain):
    """The one whose globs mean it and do not exclude it; --flow says otherwise."""
    (logs / "deep").mkdir()
    explain.configure(flow(logs / "web.log", name="web"), flow(logs / "deep" / "**/*.log", name="deep"),
                      flow(logs / "*.log", name="all", exclude=["web*.log"]))
    for name, expected in (("web.log", "web"), ("other.log", "all"), ("deep/x.log", "deep")):
        (logs / name).write_bytes(b"x\n")
        assert told(explain("--json", logs / name))[0]["flow"] == expected
        assert told(explain("--json", f"logs/{name}"))[0]["flow"] == expected
        assert told(explain("--json", "--flow", "all", logs / name))[0]["flow"] == "all"
    (logs / "stray").write_bytes(b"x\n")
    explain(logs / "stray", status=2)
    assert "--flow" in explain.said and all(f"\n    {n}\n" in explain.said for n in ("web", "deep", "all"))
    explain(status=2, input=b"x\n")
    assert "--flow" in explain.said


# -- for people --------------------------------------------------------------------------------

EVIL = b"\x1b[31mred\x1b]0;title\x07\x9b1m\x08\r\x7f \xff \xe2\x80\xae \xc2\x9b31m"


def text_of(logs, explain, lines, **more):
    explain.configure(flow(logs / "*.log", **more))
    (logs / "a.log").write_bytes(lines)
    return explain(logs / "a.log")


def test_text(logs, explain):
    """The line, its fields, the record, its key; why it is not sent."""
    explain.configure(combined(logs, key="field:host", drop=["secret"]))
    got = explain(input=COMBINED + b"secret\n").decode()
    send, note, drop = got.split("- bytes ")[1:]
    assert send.startswith("0 to 85: send\n")
    assert '  line     127.0.0.1 - frank [' in send and "  fields   host = 127.0.0.1\n" in send
    assert "\n           referer = null\n" in send and '\n  key      "127.0.0.1"\n' in send
    assert '\n  record   {"host":"127.0.0.1",' in send
    assert "\n  note     " in note and "\n  record   nonsense\n" in note
    assert ": drop\n" in drop and "\n  reason   " in drop and "record" not in drop


def is_harmless(output):
    """Nothing in it moves a cursor, paints or turns around."""
    text = output.decode()                      # valid UTF-8, or this raises
    return all(c == "\n" or (c >= " " and not "\x7f" <= c <= "\x9f" and c not in "\u202e\u202d")
               for c in text)


@pytest.mark.parametrize("more", [{}, {"parse": {"regex": "(?<all>.*)"}}, {"key": "regex:(.*)"},
                                  {"multiline": {"start": "^x"}}, {"join": "lines"},
                                  {"parse": {"format": "json", "on_mismatch": "tag"}}])
def test_no_escape_reaches_the_terminal(logs, explain, more):
    """Neither from the line nor from a field, a key or a file's name."""
    assert is_harmless(text_of(logs, explain, EVIL + b"\n" + EVIL + b"\n", **more))
    evil_name = os.fsencode(logs) + b"/\x1b[31m\xff.log"
    with open(evil_name, "wb") as file:
        file.write(b"x\n")
    assert is_harmless(explain("--flow", "f", os.fsdecode(evil_name)))
    for line in explain("--flow", "f", "--json", os.fsdecode(evil_name)).splitlines():
        json.loads(line)
        assert b"\x1b" not in line
    explain("--flow", "f", os.fsdecode(evil_name) + "nothing", status=1)
    assert is_harmless(explain.said.encode("utf-8", "surrogateescape"))


def on_a_terminal(arguments, config, environment):
    """What a terminal gets."""
    master, slave = pty.openpty()
    with subprocess.Popen([str(BINARY), "-c", str(config), "explain", *map(str, arguments)], stdin=slave,
                          stdout=slave, stderr=subprocess.PIPE, env=environment) as process:
        os.close(slave)
        got = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:                     # EIO: the other side is closed
                break
            if not piece:
                break
            got += piece
        process.wait(60)
        assert process.returncode == 0, process.stderr.read()
    os.close(master)
    return got


def test_colour_is_for_terminals(logs, explain):
    """And the only escapes there are ours; a program's output has none, even there."""
    plain = text_of(logs, explain, EVIL + b"\n", parse={"regex": "(?<all>.*)"})
    config, env = explain.agent.config_file, explain.agent.environment(TERM="xterm")
    painted = on_a_terminal([logs / "a.log"], config, env).replace(b"\r\n", b"\n")
    assert b"\x1b[" in painted and b"\x1b" not in plain
    codes = set(part.partition(b"m")[0] for part in painted.split(b"\x1b[")[1:])
    assert codes <= {b"0", b"2", b"31", b"32", b"33", b"36"}
    bare = painted
    for code in codes:
        bare = bare.replace(b"\x1b[" + code + b"m", b"")

    def without_key(text):
        return [one for one in text.splitlines() if not one.startswith(b"  key")]

    assert without_key(bare) == without_key(plain)
    assert b"\x1b" not in on_a_terminal(["--json", logs / "a.log"], config, env)


# -- mistakes ----------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments,status,said", [
    (["--flow", "nobody", "a.log"], 2, "no flow 'nobody'"),
    (["nothing.log", "--flow", "f"], 1, "'nothing.log': cannot be read: No such file or directory"),
    (["--flow", "f", "."], 1, "Is a directory"),
    (["--flow", "f", "/dev/null"], 1, "is no regular file"),
    (["--bogus"], 2, "--bogus"),
    (["--flow"], 2, "--flow"),
    (["--whole", "long"], 1, "is longer than one event may be"),
], ids=["flow", "missing", "directory", "device", "option", "argument", "long"])
def test_mistakes(place, logs, explain, arguments, status, said):
    explain.configure(flow(logs / "*.log"))
    (place / "long").write_bytes(b"x" * (8 << 20))
    output = explain(*arguments, status=status)
    assert said in explain.said and output == b"", explain.said
    first = explain.said.splitlines()[0]
    assert first.startswith("kinetail explain: ") or "usage:" in explain.said, first


def test_one_file_that_cannot_be_read_is_no_reason_to_stop(logs, explain):
    explain.configure(flow(logs / "*.log"))
    for name in ("a.log", "b.log"):
        (logs / name).write_bytes(name.encode() + b"\n")
    got = told(explain("--json", logs / "a.log", logs / "nothing", logs / "b.log", status=1))
    assert [one["record"] for one in got] == ["a.log", "b.log"]


def test_a_wrong_configuration(place, logs, explain):
    explain.configure(flow(logs / "*.log", parse={"format": "no such format"}))
    assert explain(status=2) == b""
    assert "kinetail.conf" in explain.said and "no such format" in explain.said
    explain.agent.config_file.unlink()
    explain(status=2)
    assert "No such file" in explain.said


def test_nobody_reads_what_it_says(logs, explain):
    """A closed pipe and a full disk: it ends, and says so by its status."""
    explain.configure(flow(logs / "*.log"))
    text = b"".join(b"line %d\n" % n for n in range(100_000))
    (logs / "a.log").write_bytes(text)
    command = [str(BINARY), "-c", str(explain.agent.config_file), "explain", str(logs / "a.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) != 0
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=30)
    assert done.returncode == 1


def test_it_says_what_the_agent_sends(logs, place, endpoint, explain, agent):
    """The very records, in the very order."""
    settings = {"parse": {"format": "logfmt", "types": {"n": "integer"}}, "redact": [
        {"pattern": r"\d{4}-\d{4}", "replace": "<$0>"}], "drop": ["debug"], "key": "field:who",
        "add": {"file": "${file}", "at": "${offset}"}, "multiline": {"continue": r"^\s"}, "in_flight": 1,
        "on_oversize": "split"}
    text = b"".join(b"n=%d who=w%d %b card=1234-%04d\n%b" % (
        n, n % 7, b"debug=1" if n % 5 == 0 else b"", n, b"\tmore=\xff\n" if n % 3 == 0 else b"")
        for n in range(3000)) + b"n=1 big=" + b"y" * 3_000_000 + b"\nn=2\n"
    (logs / "a.log").write_bytes(text)
    explain.configure(flow(logs / "*.log", **settings))
    expected = [base64.b64decode(one["record_base64"]) for one in told(explain("--json", logs / "a.log"))
                if one["outcome"] == "send"]
    agent.configure(flow(logs / "*.log", **settings)).start()
    eventually(lambda: len(records(endpoint.record_file)) >= len(expected), alive=agent.alive)
    assert records(endpoint.record_file) == expected
