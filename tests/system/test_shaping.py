"""From lines to records with the real binary: parsed, redacted, added to, joined, compressed, keyed and
cut; and lines that are made to hurt."""
import base64
import functools
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import time

import pytest

from harness import eventually, flow
from oracle import records

RECORD_MAX = 1 << 20
MEMORY_MAX = 64 << 20


@pytest.fixture
def arrived(arrived):
    return functools.partial(arrived, timeout=60)  # lines of many MiB


@pytest.fixture
def kept(endpoint, agent):
    """kept(n): n records as the endpoint keeps them, with their keys."""
    def wait(count):
        eventually(lambda: endpoint.stats()["records_stored"] >= count,
                   what=f"the arrival of {count} records", alive=agent.alive)
        return endpoint.records()
    return wait


def one_by_one(files, **more):
    """A flow whose records arrive in the order of their lines."""
    return flow(files, in_flight=1, **more)


# -- parsed and shaped -------------------------------------------------------------------------

def test_everything_at_once(logs, agent, arrived):
    path = logs / "a.log"
    agent.configure(one_by_one(
        logs / "*.log", parse={"format": "combined", "types": {"response": "integer", "bytes": "integer"},
                               "time": {"field": "datetime", "format": "%d/%b/%Y:%H:%M:%S %z"}},
        redact=[{"pattern": r"token=\w+", "replace": "token=-"}], drop=['"GET /health'],
        remove=["ident", "authuser"], rename={"host": "client"},
        add={"where": "${HOSTNAME}:${file}", "at": "${offset}", "env": "${env:KT_TEST}"}))
    agent.start(env={"KT_TEST": 'a"b'})
    head = '192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] '
    lines = [head + '"GET /a?token=s3cret HTTP/1.1" 200 12 "-" "x"', head + '"GET /health HTTP/1.1" 200 1 "-" "x"',
             "no such line token=s3cret", head + '"GET /b HTTP/1.1" 304 - "-" "\\x22"']
    path.write_text("".join(one + "\n" for one in lines))
    got = arrived(3)
    first = json.loads(got[0])
    assert first == {"client": "192.0.2.7", "datetime": "2000-10-10T13:55:36-07:00", "response": 200,
                     "request": "GET /a?token=- HTTP/1.1", "bytes": 12, "referer": None, "agent": "x",
                     "where": f"{socket.gethostname()}:{path}", "at": "0", "env": 'a"b'}
    assert b"s3cret" not in b"".join(got)
    last = json.loads(got[2])
    assert (last["response"], last["bytes"], last["agent"]) == (304, None, '"')
    assert last["at"] == str(sum(len(one) + 1 for one in lines[:3]))
    eventually(lambda: agent.complaints("does not|has no|sent as it is"), alive=agent.alive)


@pytest.mark.parametrize("what,expected", [
    ({"include": ["^keep"]}, [b"keep 1", b"keep drop 4"]),
    ({"drop": ["drop"]}, [b"keep 1", b"other 2"]),
    ({"include": ["^keep", "^other"], "drop": ["drop", "2"]}, [b"keep 1"]),
], ids=["include", "drop", "both"])
def test_dropped_lines_are_behind_us(logs, agent, arrived, what, expected):
    """They make no record, and no restart sees them again; a file of nothing else is read to its end."""
    agent.configure(one_by_one(logs / "*.log", **what)).start()
    text = b"keep 1\nother 2\ndrop 3\nkeep drop 4\nno drop 5\n"
    (logs / "a.log").write_bytes(text)
    (logs / "b.log").write_bytes(b"drop 2\n" * 100_000)
    arrived(len(expected))
    time.sleep(0.5)
    agent.terminate()
    listed = agent.run("-c", agent.config_file, "checkpoint", "list", "--json")
    assert {json.loads(one)["path"]: json.loads(one)["offset"] for one in listed.stdout.splitlines()} == {
        str(logs / "a.log"): len(text), str(logs / "b.log"): 700_000}
    agent.start()
    time.sleep(0.3)
    assert records(agent.endpoint.record_file) == expected


@pytest.mark.parametrize("on_mismatch", ["raw", "drop", "tag", "dead"])
def test_on_mismatch(logs, agent, arrived, on_mismatch):
    """It is said once, whatever becomes of them."""
    agent.configure(one_by_one(logs / "*.log", parse={"format": "json", "on_mismatch": on_mismatch})).start()
    (logs / "a.log").write_bytes(b'{"a":1}\n' + b"no json\n" * 50 + b'{"a":2}\n')
    got = arrived(52 if on_mismatch in ("raw", "tag") else 2)
    agent.terminate()
    assert records(agent.endpoint.record_file) == got
    assert (got[0], got[-1]) == (b'{"a":1}', b'{"a":2}')
    if on_mismatch == "raw":
        assert set(got[1:-1]) == {b"no json"}
    if on_mismatch == "tag":
        assert all(b"no json" in one and len(json.loads(one)) >= 2 for one in got[1:-1])
    if on_mismatch != "drop":
        assert len(agent.complaints("the line at byte 8 ")) == 1


# -- joined and compressed ---------------------------------------------------------------------

def unpacked(kind, record):
    if kind == "gzip":
        return gzip.decompress(record)
    if kind == "zstd":
        return subprocess.run(["zstd", "-dcq"], input=record, stdout=subprocess.PIPE, check=True).stdout
    return record


@pytest.mark.parametrize("newline", [False, True])
@pytest.mark.parametrize("compress", ["none", "gzip", "zstd"])
def test_joined_lines(logs, agent, compress, newline, endpoint):
    """All of them arrive, whole and in order, in few records, across restarts."""
    if compress == "zstd" and shutil.which("zstd") is None:
        pytest.skip("there is no zstd(1)")
    agent.configure(one_by_one(logs / "*.log", join="lines", join_bytes="64KiB", compress=compress,
                               newline=newline)).start()
    dice = random.Random(7)
    lines = [b"%07d %s" % (n, b"x" * dice.randrange(300)) for n in range(20_000)]
    text = b"".join(one + b"\n" for one in lines)
    with open(logs / "a.log", "ab", buffering=0) as file:
        for at in range(0, len(text), 400_001):
            file.write(text[at:at + 400_001])
            if at // 400_001 == 3:
                time.sleep(0.3)
                agent.terminate()
                agent.start()

    def all_of_it():
        got = [unpacked(compress, one) for one in records(endpoint.record_file)]
        return got if sum(len(one) + (not newline) for one in got) >= len(text) else None

    got = eventually(all_of_it, step=0.3, alive=agent.alive)
    assert b"".join(one if newline else one + b"\n" for one in got) == text
    assert all(len(one) <= 64 << 10 for one in got)
    assert len(got) < len(text) / (64 << 10) + 25
    if compress != "none":
        assert sum(map(len, records(endpoint.record_file))) < len(text) / 3


@pytest.mark.endpoint(keep="all")
@pytest.mark.parametrize("key", ["field:who", "regex:who=(\\w+)"])
def test_a_joined_record_has_one_key(logs, agent, kept, key):
    """Lines of different keys are in different records."""
    agent.configure(one_by_one(logs / "*.log", join="lines", key=key, parse={"format": "logfmt"})).start()
    text = [b"n=%d who=w%d" % (n, n // 10 % 4) for n in range(1000)]
    (logs / "a.log").write_bytes(b"".join(one + b"\n" for one in text))
    found = kept(100)
    assert len(found) == 100
    for n, one in enumerate(found):
        assert one["key"] == f"w{n % 4}"
        lines = base64.b64decode(one["data"]).decode().split("\n")
        assert [json.loads(line)["who"] for line in lines] == [one["key"]] * 10


def test_linger_is_kept(logs, agent, arrived):
    """Lines that would be joined do not leave before their linger is over, and then together."""
    agent.configure(one_by_one(logs / "*.log", join="lines", linger="1500ms")).start()
    with open(logs / "a.log", "ab", buffering=0) as file:
        begun = time.monotonic()
        for n in range(10):
            file.write(b"%d\n" % n)
            time.sleep(0.03)
        got = arrived(1)
        assert time.monotonic() - begun >= 1.5
    assert got == [b"\n".join(b"%d" % n for n in range(10))]


# -- too large ---------------------------------------------------------------------------------

def put_together(got):
    """[{of: whole text}], as the README says it is done."""
    wholes, parts = {}, {}
    for one in got:
        part = json.loads(one)
        text = part["text"].encode() if "text" in part else base64.b64decode(part["base64"])
        assert part["part"] not in parts.setdefault(part["of"], {})
        parts[part["of"]][part["part"]] = (part["last"], text)
    for of, numbered in parts.items():
        assert sorted(numbered) == list(range(1, len(numbered) + 1))
        assert [n for n in numbered if numbered[n][0]] == [len(numbered)]
        wholes[of] = b"".join(numbered[n][1] for n in sorted(numbered))
    return list(wholes.values())


@pytest.mark.endpoint(keep="all")
@pytest.mark.parametrize("size", [1, 5, 60])
def test_split_lines_can_be_put_together(logs, agent, endpoint, kept, size):
    """One key, and every byte."""
    agent.configure(one_by_one(logs / "*.log", on_oversize="split")).start()
    dice = random.Random(size)
    unit = "".join(dice.choices('abc "\\\t\u20ac\U0001f426', k=9973)).encode()
    whole = (unit * ((size << 20) // len(unit) + 2))[:(size << 20) + 1000]
    while whole[-1] & 0xc0 != 0x40:             # ends at a letter
        whole = whole[:-1]
    (logs / "a.log").write_bytes(b"before\n" + whole + b"\nafter\n")

    def last():
        found = records(endpoint.record_file)
        return found if found and found[-1] == b"after" else None

    got = eventually(last, step=0.3, timeout=60, alive=agent.alive)
    assert got[0] == b"before"
    assert all(len(one) <= RECORD_MAX for one in got)
    assert put_together(got[1:-1]) == [whole]
    assert len({one["key"] for one in endpoint.records()[1:-1]}) == 1
    if not agent.sanitized:
        assert agent.memory() < MEMORY_MAX


def test_split_bytes_that_are_no_text(logs, agent, endpoint):
    whole = bytes(random.Random(3).choices([b for b in range(256) if b != 10], k=3 << 20))
    whole = b"x" + whole
    agent.configure(one_by_one(logs / "*.log", on_oversize="split")).start()
    (logs / "a.log").write_bytes(whole + b"\nafter\n")
    eventually(lambda: records(endpoint.record_file)[-1:] == [b"after"], alive=agent.alive)
    assert put_together(records(endpoint.record_file)[:-1]) == [whole]


def test_a_long_last_line_without_its_newline(logs, agent, endpoint):
    """Its file is deleted: what is left leaves, every byte and once."""
    agent.configure(one_by_one(logs / "*.log", on_oversize="split")).start()
    whole = b"".join(b"%07d" % n for n in range(400_000))
    (logs / "a.log").write_bytes(b"first\n" + whole)
    eventually(lambda: records(endpoint.record_file) == [b"first"], alive=agent.alive)
    (logs / "a.log").unlink()
    time.sleep(0.3)
    agent.terminate()                           # nobody could read it at the next start
    assert put_together(records(endpoint.record_file)[1:]) == [whole]


def test_a_split_line_over_a_restart(logs, agent, endpoint):
    """Parts may come twice then, but they are the same parts."""
    agent.configure(one_by_one(logs / "*.log", on_oversize="split", records=2)).start()
    whole = b"".join(b"%08d" % n for n in range(3_000_000))
    endpoint.fault("slow", delay_ms=100)
    (logs / "a.log").write_bytes(whole + b"\nafter\n")
    eventually(lambda: len(records(endpoint.record_file)) >= 6, alive=agent.alive)
    agent.kill()
    endpoint.heal()
    agent.start()
    eventually(lambda: records(endpoint.record_file)[-1:] == [b"after"], alive=agent.alive)
    assert put_together(dict.fromkeys(records(endpoint.record_file)[:-1])) == [whole]


def test_truncated_json_is_json(logs, agent, arrived):
    agent.configure(one_by_one(logs / "*.log", parse={"format": "json"}, truncated_suffix="\u2026",
                               add={"more": "m" * 4000})).start()
    line = json.dumps({"a": 1, "text": '"\u20ac' * 209_000, "b": "z"}, ensure_ascii=False)
    (logs / "a.log").write_text(line + "\nafter\n")
    got = arrived(2)
    assert RECORD_MAX - 1024 <= len(got[0]) <= RECORD_MAX
    shown = json.loads(got[0])
    assert (shown["a"], shown["b"]) == (1, "z") and shown["text"].endswith("\u2026")


# -- what files are written in -----------------------------------------------------------------

@pytest.mark.parametrize("codec,setting,mark", [
    ("utf-16-le", "utf-16le", b"\xff\xfe"), ("utf-16-be", "utf-16be", b"\xfe\xff"),
    ("utf-16-le", "utf-16le", b""), ("latin-1", "latin1", b"")], ids=["le", "be", "no-mark", "latin"])
def test_encodings_are_followed(logs, agent, arrived, codec, setting, mark, dice):
    """Written in pieces that end anywhere, rotated, restarted: UTF-8 in the end, and the mark is gone."""
    agent.configure(one_by_one(logs / "*.log", encoding=setting)).start()
    letters = "ab \u00e9\u00ff\u010a\u0a00\u0a0a\U0001f426\r" if codec != "latin-1" else "ab \u00e9\u00ff\u0085\r"
    texts = [f"{n} " + "".join(dice.choices(letters, k=dice.randrange(60))) for n in range(400)]
    path = logs / "a.log"
    for part in range(4):
        data = mark + "".join(one + "\n" for one in texts[part * 100:part * 100 + 100]).encode(codec)
        with open(path, "ab", buffering=0) as file:
            at = 0
            while at < len(data):
                step = dice.randrange(1, 1500)
                file.write(data[at:at + step])
                at += step
                time.sleep(0.01)
                if at < len(data) and dice.random() < 0.1:
                    agent.terminate()
                    agent.start()
        arrived(part * 100 + 100)
        os.rename(path, logs / f"a.log.{part}")
    assert [one.decode() for one in records(agent.endpoint.record_file)] == texts


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "mark"])
def test_csv_remembers_its_header(logs, agent, arrived, mark):
    """After a restart, in each file its own, past a block of it; a field may hold lines."""
    agent.configure(one_by_one(logs / "*.csv", parse={"format": "csv", "header": True})).start()
    path = logs / "a.csv"
    path.write_bytes(mark + b"number,text\n" + b"".join(b'%d,"a\n""%d"""\n' % (n, n) for n in range(60_000)))
    arrived(60_000)
    agent.terminate()
    with open(path, "ab") as file:
        file.write(b"1,one\n")
    (logs / "b.csv").write_bytes(mark + b"text,number\nx,7\n")
    agent.start()
    got = [json.loads(one) for one in arrived(60_002)]
    assert got[:60_000] == [{"number": str(n), "text": f'a\n"{n}"'} for n in range(60_000)]
    assert {"number": "1", "text": "one"} in got[-2:] and {"text": "x", "number": "7"} in got[-2:]
    os.rename(path, logs / "a.csv.1")
    path.write_bytes(mark + b"other,columns,here\n1,2,3\n")
    assert json.loads(arrived(60_003)[-1]) == {"other": "1", "columns": "2", "here": "3"}


def test_header_lines_are_skipped(logs, agent, arrived):
    """Of each file, when they are all there, and of a truncated file again."""
    agent.configure(one_by_one(logs / "*.log", skip_header_lines=3)).start()
    with open(logs / "a.log", "ab", buffering=0) as file:
        for piece in (b"#1\n#2", b"\n#", b"3\nline 1\n", b"#line 2\n"):
            file.write(piece)
            time.sleep(0.2)
            if piece == b"\n#":
                agent.terminate()
                agent.start()
        arrived(2)
    os.truncate(logs / "a.log", 0)
    with open(logs / "a.log", "ab") as file:
        file.write(b"#1\n#2\n#3\nline 3\n")
    assert arrived(3) == [b"line 1", b"#line 2", b"line 3"]


# -- keys --------------------------------------------------------------------------------------

@pytest.mark.endpoint(keep="all")
@pytest.mark.parametrize("key,expected", [
    ("hash", lambda text: hashlib.md5(text).hexdigest()),
    ("host", lambda text: socket.gethostname()),
    ("field:user.name", lambda text: json.loads(text).get("user", {}).get("name")),
    ("field:n", lambda text: str(json.loads(text)["n"])),
    (r'regex:"n":(\d+)', lambda text: re.search(r'"n":(\d+)', text.decode())[1]),
    ("random", lambda text: None)], ids=["hash", "host", "path", "field", "group", "random"])
def test_keys_of_every_kind(logs, agent, kept, key, expected):
    """What a line does not have is random instead, counted and said once."""
    agent.configure(one_by_one(logs / "*.log", key=key, parse={"format": "json"})).start()
    names = ["\u00fcber", 'a"b', "x" * 300, "\U0001f426" * 200, None, ""]
    lines = [json.dumps({"n": n, "user": {"name": names[n % len(names)]}}, separators=(",", ":"),
                        ensure_ascii=False) for n in range(60)] + ['{"n":7}']
    (logs / "a.log").write_text("".join(one + "\n" for one in lines))
    found = kept(len(lines))
    missing = 0
    for one in found:
        data = base64.b64decode(one["data"])
        want = expected(data)
        if not want:
            missing += 1
            assert re.fullmatch(r"[\w-]{8}", one["key"])
        else:
            units = want.encode("utf-16-le")[:512]
            assert one["key"] == units.decode("utf-16-le", "ignore")
    agent.terminate()
    assert len(agent.complaints("could be its key")) == (1 if missing and key != "random" else 0)


# -- containers --------------------------------------------------------------------------------

def test_containers_logs_as_the_kubelet_writes_and_rotates_them(logs, agent, arrived, dice):
    """Parts of long lines, two streams interleaved; renamed with a date when it is large, with a link to
    it; across a restart."""
    pod = logs / "pods" / "ns_pod_1" / "app"
    pod.mkdir(parents=True)
    agent.configure(one_by_one(logs / "pods" / "*/*/*.log", parse={"format": "cri"}, output="raw")).start()
    expected = {"stdout": [], "stderr": []}
    path = pod / "0.log"
    stream_left = {"stdout": [], "stderr": []}
    seq = 0
    for step in range(1500):
        stream = dice.choice(("stdout", "stderr"))
        if not stream_left[stream]:
            text = f"{seq} {stream} " + "m" * dice.choice((3, 3, 40, 300))
            expected[stream].append(text)
            seq += 1
            cuts = [text[at:at + 100] for at in range(0, len(text), 100)]
            stream_left[stream] = [("P", c) for c in cuts[:-1]] + [("F", cuts[-1])]
        tag, text = stream_left[stream].pop(0)
        with open(path, "ab", buffering=0) as file:
            file.write(f"2026-11-20T10:00:00.{step:09d}Z {stream} {tag} {text}\n".encode())
        if step % 40 == 0:
            time.sleep(0.02)
        if step % 400 == 399:
            os.rename(path, pod / f"0.log.20261120-{step:06d}")
            path.touch()
        if step == 700:
            agent.terminate()
            agent.start()
    with open(path, "ab", buffering=0) as file:
        for stream, left in stream_left.items():
            for tag, text in left:
                file.write(f"2026-11-20T10:00:01.000000000Z {stream} {tag} {text}\n".encode())
    got = [one.decode() for one in arrived(sum(map(len, expected.values())))]
    for stream, texts in expected.items():
        assert [one for one in got if f" {stream} " in one] == texts


# -- lines that are made to hurt ---------------------------------------------------------------

@pytest.mark.parametrize("hole,oversize", [(True, "truncate"), (False, "truncate"), (False, "split")],
                         ids=["zeros", "letters", "parts"])
def test_a_line_of_two_gigabytes(logs, agent, endpoint, oversize, hole):
    """In bounded memory, and its neighbours are whole."""
    agent.configure(one_by_one(logs / "*.log", on_oversize=oversize), drain_timeout="1s").start()
    path = logs / "a.log"
    size = (2 << 30) if hole else (300 << 20)
    with open(path, "wb") as file:
        file.write(b"before\nx")
        if hole:
            file.seek(size, os.SEEK_CUR)
        else:
            for _ in range(size >> 20):
                file.write(b"y" * (1 << 20))
        file.write(b"z\nafter\n")
    if oversize == "split":
        eventually(lambda: endpoint.stats()["records_stored"] > 40, timeout=60, alive=agent.alive)
    else:
        eventually(lambda: endpoint.stats()["records_stored"] >= 3, timeout=60, alive=agent.alive)
        got = records(endpoint.record_file)
        assert (got[0], got[2], len(got)) == (b"before", b"after", 3) and len(got[1]) <= RECORD_MAX
        assert got[1].startswith(b"x" + (b"\0" if hole else b"y")) and got[1].endswith(b"...(truncated)")
    if not agent.sanitized:
        assert agent.memory() < MEMORY_MAX
    agent.terminate()


def test_deep_json(logs, agent, arrived):
    """A hundred thousand levels: no crash, and what follows is parsed."""
    agent.configure(one_by_one(logs / "*.log", parse={"format": "json"})).start()
    deep = [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"[" * 900_000,
            b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]
    (logs / "a.log").write_bytes(b"".join(one + b"\n" for one in deep) + b'{"a":1}\n')
    got = arrived(5)
    assert got[-1] == b'{"a":1}' and got[0] == deep[0] and got[2] == deep[2]


def test_zeros_and_what_is_no_utf_8(logs, agent, arrived):
    """Kept in raw, replaced in JSON; a zero within a line is a character."""
    texts = [b"a\x00b", b"\xff\xfe", b"\xe2\x82", b"ok \xed\xa0\x80", b"c\x00\x00", b"\xc0\xaf"]
    (logs / "a.log").write_bytes(b"".join(one + b"\n" for one in texts))
    agent.configure(one_by_one(logs / "*.log"),
                    one_by_one(logs / "*.log", name="json", stream="s2", parse={"regex": "(?s)(?<all>.*)"}))
    agent.endpoint.stop()
    agent.endpoint._arguments += ["--stream=s2:1"]
    agent.endpoint.start()
    agent.start()
    got = arrived(2 * len(texts))
    assert sorted(one for one in got if not one.startswith(b"{")) == sorted(texts)
    shown = [json.loads(one)["all"] for one in got if one.startswith(b"{")]
    assert shown == [one.decode("utf-8", "replace") for one in texts]



def test_evil_patterns_beside_a_good_flow(logs, agent, endpoint, arrived):
    """An evil flow says once that it gave up and delivers every line; the other does not notice."""
    agent.configure(
        one_by_one(logs / "evil.log", name="evil", drop=[r"^(a+)+$", r"(x+x+)+y", r"^(\w+\s?)*$"],
                   include=[r"(.+)\1\1\1!$", "."], parse={"regex": "^(?<v>(a|aa)+)$"}),
        one_by_one(logs / "good.log", name="good")).start()
    evil = [b"a" * 5000 + b"!", b"x" * 5000 + b"!", b"word " * 1000 + b"!"] * 100
    good = [b"good %d" % n for n in range(20_000)]
    (logs / "evil.log").write_bytes(b"".join(one + b"\n" for one in evil))
    (logs / "good.log").write_bytes(b"".join(one + b"\n" for one in good))
    got = arrived(len(evil) + len(good), timeout=120)
    assert [one for one in got if one.startswith(b"good")] == good
    assert len(got) == len(evil) + len(good)
    assert len(agent.complaints("flow evil.*too hard for a pattern")) == 1
    assert not agent.complaints("flow good")
