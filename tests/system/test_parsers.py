"""The parsers beside others of the same formats: what they make of a hundred thousand generated
events is what Python's json and csv make of them, and what was put into a line comes out again."""
import csv
import io
import json
import os
import random
import re
import struct
import subprocess

from harness import ROOT

PROGRAM = ROOT / os.environ.get("KT_BUILD", "build") / "tools" / "parse_lines"
SEED = os.environ.get("KT_SEED", "1")
JSON_COUNT = 100_000
CSV_COUNT = 100_000
LINE_COUNT = 30_000


def dice(name):
    print(f"KT_SEED={SEED}")
    return random.Random(f"{SEED}/{name}")


def parsed(format, events, *settings):
    """For each event what parse_lines says: a line beginning with 1, 0 or a negative errno."""
    assert PROGRAM.exists(), f"{PROGRAM} is missing: make unit-programs"
    text = b"".join(struct.pack("<I", len(e)) + e for e in events)
    done = subprocess.run([PROGRAM, format, *settings], input=text, stdout=subprocess.PIPE, check=True)
    lines = done.stdout.split(b"\n")
    assert len(lines) == len(events) + 1 and lines[-1] == b""
    return lines[:-1]


def whole(text):
    """A string as it can be written in UTF-8: lone surrogates are replaced."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def all_whole(value):
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, list):
        return [all_whole(v) for v in value]
    if isinstance(value, dict):
        return {whole(k): all_whole(v) for k, v in value.items()}
    return value


class Literal(tuple):
    """A number as it was written, which is no text."""


def read_json(text):
    number = lambda literal: Literal((literal,))
    return json.loads(text, parse_int=number, parse_float=number)


# -- json

LETTERS = "abcXYZ 0189_-/\\\"\t\n\r\b\f\0\x01\x1f\x7fäß€日😀\ud83d\ude00\u2028"


def random_text(d):
    return "".join(d.choices(LETTERS, k=d.choice((0, 1, 2, 3, 5, 8, 17, 33))))


def written_string(d, text):
    """One of the many ways to write it."""
    out = []
    for c in text:
        code = ord(c)
        if d.random() < 0.15 or 0xd800 <= code < 0xe000:
            units = c.encode("utf-16-be", "surrogatepass")
            out += ["\\u" + units[i:i + 2].hex() for i in range(0, len(units), 2)]
        elif c in '"\\' or (c == "/" and d.random() < 0.5):
            out.append("\\" + c)
        elif c in "\b\f\n\r\t":
            out.append("\\" + "bfnrt"["\b\f\n\r\t".index(c)])
        elif code < 0x20:
            out.append(f"\\u{code:04X}")
        else:
            out.append(c)
    return ('"' + "".join(out) + '"').encode()


def blank(d):
    return d.choice((b"", b"", b"", b" ", b"  ", b"\t", b"\n", b"\r\n"))


def written_value(d, depth):
    kind = d.randrange(9 if depth < 4 else 7)
    if kind < 3:
        value = written_string(d, random_text(d))
        # bytes that are no UTF-8
        return value[:-1] + d.choice((b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80")) + b'"' if d.random() < 0.03 else value
    if kind == 3:
        return d.choice(("0", "-0", "1", "-17", "3.50", "1e5", "1E+400", "-0.1e-7", str(d.getrandbits(80)))).encode()
    if kind < 7:
        return d.choice((b"true", b"false", b"null"))
    items = range(d.choice((0, 1, 2, 3)))
    if kind == 7:
        inner = b",".join(blank(d) + written_value(d, depth + 1) + blank(d) for _ in items)
        return b"[" + (inner or blank(d)) + b"]"
    return written_object(d, depth + 1, len(items))


def written_object(d, depth, count):
    members = []
    for _ in range(count):
        name = d.choice("abcdefgh") if d.random() < 0.5 else random_text(d)
        members.append(blank(d) + written_string(d, name) + blank(d) + b":" + blank(d) + written_value(d, depth) + blank(d))
    return b"{" + (b",".join(members) or blank(d)) + b"}"


def damaged(d, text):
    at = d.randrange(len(text))
    return text[:at] + d.choice((b"", b",", b"}", b"]", b'"', b"\\", b":", b"0", b"x")) + text[at + d.randrange(2):]


def test_json_is_what_pythons_json_reads():
    d = dice("json")
    events = []
    for n in range(JSON_COUNT):
        count = 20 + d.randrange(30) if n % 500 == 0 else d.randrange(6)
        event = blank(d) + written_object(d, 0, count) + d.choice((b"", b" ", b"\r"))
        events.append(damaged(d, event) if n % 10 == 9 else event)
    good = 0
    for event, is_ in zip(events, parsed("json", events)):
        text = event.decode("utf-8", "replace")
        try:
            expected = read_json(text)  # reads NaN and Infinity too, but no damage makes a word one of these
            well = isinstance(expected, dict)
        except ValueError:
            well = False
        assert is_[:2] == (b"1 " if well else b"0 "), event
        if not well:
            continue
        got = read_json(is_[2:].decode())               # valid UTF-8, valid JSON
        assert list(got.items()) == list(all_whole(expected).items()), event
        assert b"\\/" not in is_.replace(b"\\\\", b"")      # one way of writing
        good += 1
    assert good > 0.9 * JSON_COUNT


def test_json_is_written_in_one_way():
    """A string is written with the same bytes whether it stands alone or in an array: as Python writes it."""
    d = dice("one way")
    texts = [random_text(d) for _ in range(LINE_COUNT)]
    events = [b'{"a":' + written_string(d, t) + b',"b":[' + written_string(d, t) + b"]}" for t in texts]
    for text, is_ in zip(texts, parsed("json", events)):
        # written_string joins no halves that stand apart, but two halves side by side are one character
        text = whole(text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass"))
        string = json.dumps(text, ensure_ascii=False)
        assert is_.decode() == f'1 {{"a":{string},"b":[{string}]}}'


# -- csv

NAMES = "abcdefgh"


def test_csv_is_what_pythons_csv_reads():
    d = dice("csv")
    rows = []
    while len(rows) < CSV_COUNT:
        if d.random() < 0.3:    # well-formed, with anything in it
            out = io.StringIO()
            fields = ["".join(d.choices('ab ,";\n\r\tä', k=d.randrange(6))) for _ in range(d.randrange(1, 10))]
            csv.writer(out, quoting=d.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)), lineterminator="\r\n").writerow(fields)
            rows.append(out.getvalue().removesuffix("\r\n"))
        else:
            row = "".join(d.choices('ab,,""" ä\n' if d.random() < 0.2 else 'ab,,""" ä', k=d.randrange(20)))
            if not row.endswith("\n"):
                rows.append(row)
    good = 0
    for row, is_ in zip(rows, parsed("csv", [r.encode() for r in rows], ",".join(NAMES))):
        reader = csv.reader([row, "x"])
        try:
            columns = next(reader)
        except csv.Error:
            assert is_ == b"0 has a newline outside of quotes" or is_ == b"0 has no closing quote", row
            continue
        if reader.line_num > 1:
            assert is_ == b"0 has no closing quote", row
        elif row == "":
            assert is_ == b"0 is empty"
        elif len(columns) > len(NAMES):
            assert is_.decode() == f"0 has {len(columns)} columns, but there are {len(NAMES)} names", row
        else:
            columns += [None] * (len(NAMES) - len(columns))
            assert is_[:2] == b"1 ", row
            assert json.loads(is_[2:]) == dict(zip(NAMES, columns)), row
            good += 1
    assert good > 0.5 * CSV_COUNT


# -- what was put into a line comes out again

def escaped_by_httpd(raw):
    """ap_escape_logitem."""
    out = []
    for b in raw:
        c = chr(b)
        if c in '"\\':
            out.append("\\" + c)
        elif c in "\b\n\r\t\v":
            out.append("\\" + "bnrtv"["\b\n\r\t\v".index(c)])
        elif b < 0x20 or b > 0x7e:
            out.append(f"\\x{b:02x}")
        else:
            out.append(c)
    return "".join(out)


def escaped_by_nginx(raw):
    return "".join(f"\\x{b:02X}" if b < 0x20 or b > 0x7e or chr(b) in '"\\' else chr(b) for b in raw)


def test_combined_gives_back_what_was_logged():
    d = dice("combined")
    events, expected = [], []
    for _ in range(LINE_COUNT):
        escaped = d.choice((escaped_by_httpd, escaped_by_nginx))
        raw = [bytes(d.choices(b'GET / "\\x41n\t\n\x16\x00\x80\xc3\xa4', k=d.randrange(12))) for _ in range(3)]
        user = bytes(d.choices(b'ab@ "\\x4\xe4', k=d.randrange(1, 6)))
        if user[:1] == b"-" or any(r == b"-" for r in raw):
            continue
        bytes_ = d.choice(("-", "0", str(d.randrange(10 ** 6))))
        quoted = [f'"{escaped(r)}"' for r in raw]
        line = (f"192.0.2.1 - {escaped(user)} [10/Oct/2000:13:55:36 -0700] {quoted[0]} 200 {bytes_} {quoted[1]} {quoted[2]}"
                + d.choice(("", "", " 0.003", " x y", "\r")))
        events.append(line.encode())
        expected.append([user, *raw, None if bytes_ == "-" else bytes_])
    for event, (user, request, referer, agent, bytes_), is_ in zip(events, expected, parsed("combined", events)):
        assert is_[:2] == b"1 ", event
        got = json.loads(is_[2:])
        text = lambda raw: raw.decode("utf-8", "replace")
        assert got == {"host": "192.0.2.1", "ident": None, "authuser": text(user), "datetime": "10/Oct/2000:13:55:36 -0700",
                       "request": text(request), "response": "200", "bytes": bytes_, "referer": text(referer),
                       "agent": text(agent)}, event


def test_logfmt_gives_back_what_was_logged():
    d = dice("logfmt")
    events, expected = [], []
    for _ in range(LINE_COUNT):
        fields, parts = {}, []
        for _ in range(d.randrange(1, 8)):
            key = "".join(d.choices("abc.-_ä", k=d.randrange(1, 4)))
            kind = d.randrange(4)
            if kind == 0 and fields:
                fields[key] = True
                parts.append(key)
            elif kind == 1:
                fields[key] = "".join(d.choices("ab=1,:/", k=d.randrange(5)))
                parts.append(f"{key}={fields[key]}")
            else:
                text = whole(random_text(d))
                fields[key] = text
                parts.append(f"{key}={written_string(d, text).decode()}")
        events.append(d.choice((" ", "  ", "\t")).join(parts).encode())
        expected.append(fields)
        if not any("=" in p for p in parts):
            events.pop(), expected.pop()
    for event, fields, is_ in zip(events, expected, parsed("logfmt", events)):
        assert is_[:2] == b"1 ", event
        assert list(json.loads(is_[2:]).items()) == list(fields.items()), event
