"""The configuration: every mistake at once, with its place; and what is refused for safety."""
import os
import re

import pytest

from harness import KEY_ID, SECRET, flow

GOOD = f'''region = "us-east-1";
state_dir = "@/state";
endpoint = {{ kinesis = "http://127.0.0.1:1"; }};
credentials = {{ access_key_id = "{KEY_ID}"; secret_access_key = "{SECRET}"; }};
flows = (
  {{ name = "f"; files = [ "@/logs/*.log" ]; stream = "s1"; }}
);
'''


def good(place):
    return GOOD.replace("@", str(place))


@pytest.fixture
def check(agent, place):
    def run(text):
        agent.config_text(text.replace("@", str(place)))
        return agent.run("check", "-c", agent.config_file)
    return run


def test_a_good_one(check):
    done = check(GOOD)
    assert done.returncode == 0, done.stderr


def test_every_mistake_at_once(check, agent):
    """One line each: file:line: key: sentence.  And nothing is started."""
    text = GOOD.replace("@/state", "relative/state") + 'colour = "blue";\n' + 'lanes = "many";\n'
    text = text.replace('stream = "s1"; }', 'stream = "s1";\n    batch = { records = 501; };\n'
                        '    linger = "1s";\n    from = "middle"; },\n'
                        '  { name = "f"; files = [ "@/x/*.log" ]; stream = "s2"; }')
    done = check(text)
    assert done.returncode == 2, done.stderr
    told = re.findall(r"^(\S+?):(\d+): ([\w\[\].]+): (.+)$", done.stderr, re.MULTILINE)
    lines = {key: int(line) for _, line, key, _ in told}
    wanted = {"state_dir": 2, "flows[0].batch.records": 7, "flows[0].linger": 8,
              "flows[0].from": 9, "flows[1].name": 10, "colour": 12, "lanes": 13}
    assert {key: lines.get(key) for key in wanted} == wanted, done.stderr
    assert {file for file, *_ in told} == {str(agent.config_file)}
    assert len(told) == len(wanted), done.stderr
    run = agent.run("-c", agent.config_file)
    assert run.returncode == 2 and "colour" in run.stderr


@pytest.mark.parametrize("change,key", [
    (('region = "us-east-1";', ''), "region"),
    (('127.0.0.1:1', 'kinesis.example.org'), "endpoint.kinesis"),
    (('stream = "s1";', ''), "stream"),
    (('stream = "s1";', 'stream = "s1"; max_in_flight = 0;'), "max_in_flight"),
    (('stream = "s1";', 'stream = "s1"; key = "sorted";'), "key"),
    (('stream = "s1";', 'stream = "s1"; batch = { linger = 5; };'), "linger"),
    (('stream = "s1";', 'stream = "not a name";'), "stream"),
    (('files = [ "@/logs/*.log" ]', 'files = [ ]'), "files"),
    (('files = [ "@/logs/*.log" ]', 'files = [ "relative.log" ]'), "files"),
    (('files = [ "@/logs/*.log" ]', 'files = "@/logs/*.log"'), "files"),
    (('flows = (', 'lanes = 2;\nflows = ('), "lanes"),
    (('flows = (', 'tls = { ca_file = "/nowhere/ca.pem"; };\nflows = ('), "ca_file"),
    (('region = "us-east-1";', 'region = "us-east-1;'), ""),
    (('stream = "s1";', 'stream = "s1"; delivery_stream = "d1";'), "delivery_stream"),
    (('stream = "s1";', 'delivery_stream = "a/b";'), "delivery_stream"),
    (('stream = "s1";', 'stream = "s1"; multiline = { timeout = "1s"; };'), "multiline.timeout"),
    (('stream = "s1";', 'stream = "s1"; parse = { format = "clf"; };'), "parse.format"),
    (('stream = "s1";', 'stream = "s1"; parse = { format = "csv"; };'), "parse.format"),
    (('stream = "s1";', 'stream = "s1"; parse = { time = { filed = "t"; }; };'), "parse.time.filed"),
    (('stream = "s1";', 'stream = "s1"; redact = ( { replace = "x"; } );'), "redact[0].pattern"),
    (('stream = "s1";', 'stream = "s1"; convert = ( { format = "java_csv"; } );'), "convert[0].fields"),
    (('stream = "s1";', 'stream = "s1"; output = "raw"; add = { a = 1; };'), "add"),
    (('stream = "s1";', 'stream = "s1"; join = "kpl";'), "join"),
    (('stream = "s1";', 'stream = "s1"; key = "field:host";'), "key"),
    (('stream = "s1";', 'stream = "s1"; compress_level = 1;'), "compress_level"),
], ids=lambda v: v if isinstance(v, str) else None)
def test_one_mistake(check, agent, change, key):
    text = GOOD.replace(*change)
    assert text != GOOD
    done = check(text)
    assert done.returncode == 2, done.stderr
    assert str(agent.config_file) in done.stderr and key in done.stderr, done.stderr
    assert SECRET not in done.stderr


def test_a_pattern_is_judged_where_it_stands(check):
    """Every pattern is compiled by check already, and the sentence points into it."""
    done = check(GOOD.replace('stream = "s1";', 'stream = "s1"; drop = [ "^ok$",\n    "^(GET|POST /" ];\n'
                              '    redact = ( { pattern = "(?<a>\\\\d+)"; replace = "${b}"; } );\n'))
    assert done.returncode == 2, done.stderr
    told = re.findall(r"^\S+?:(\d+): (\S+): (.+)$", done.stderr, re.MULTILINE)
    assert [(line, key) for line, key, _ in told] == [
        ("7", "flows[0].drop[1]"), ("8", "flows[0].redact[0].replace")], done.stderr
    assert "'^(GET|POST /' is not a pattern: " in told[0][2] and "at its end" in told[0][2]
    assert "'b'" in told[1][2] and "at character 1" in told[1][2]


SHAPING = r'''stream = "s1";
  multiline = { start = "^\\S"; };
  parse = { regex = "^(?<when>\\S+) (?<n>\\d+) (?<text>.*)"; types = { n = "integer"; };
    time = { field = "when"; format = "rfc3339"; zone = "UTC"; }; };
  redact = ( { pattern = "pw=\\S+"; replace = "pw=\"\""; } );
  add = ( { name = "@host"; value = "${HOSTNAME}"; }, { name = "n"; value = 1.5; } );
  rename = { text = "message"; }; remove = [ "x" ]; join = "lines"; compress = "gzip"; key = "field:when";'''


def test_what_is_printed_loads_and_prints_the_same(agent, place):
    """check --print writes every setting that has an effect, in its own language."""
    agent.config_text(good(place).replace('stream = "s1";', SHAPING))
    done = agent.run("check", "--print", "-c", agent.config_file)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.replace('"********"', '"x"')
    for part in ('start = "^\\\\S";', 'zone = "UTC";', '{ name = "@host"; value = "${HOSTNAME}"; }', "value = 1.5;",
                 'output = "rfc3339";', "compress_level = 0;", 'rename = { text = "message"; };'):
        assert part in printed, (part, printed)
    agent.config_text(printed)
    again = agent.run("check", "--print", "-c", agent.config_file)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout


def test_a_secret_that_others_can_read_is_refused(agent, place):
    agent.config_text(good(place))
    for mode in (0o644, 0o640, 0o604):
        os.chmod(agent.config_file, mode)
        for arguments in (("check", "-c", agent.config_file), ("-c", agent.config_file)):
            done = agent.run(*arguments)
            assert done.returncode == 2 and SECRET not in done.stderr, (oct(mode), done.stderr)
            assert "secret" in done.stderr or "read" in done.stderr, done.stderr


def test_a_configuration_that_is_not_there(agent, place):
    done = agent.run("-c", place / "nowhere.conf")
    assert done.returncode == 2 and "nowhere.conf" in done.stderr


def test_wrong_usage(agent):
    for arguments in (["--no-such-option"], ["no-such-command"], ["-c"]):
        done = agent.run(*arguments)
        assert done.returncode == 2 and done.stderr, arguments


def test_check_print_hides_the_secret(agent, place):
    agent.config_text(good(place))
    done = agent.run("check", "--print", "-c", agent.config_file)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "us-east-1" in done.stdout and "max_in_flight" in done.stdout


def test_conf_d(agent, place, logs, quill, wait_until_delivered, oracle):
    """conf.d/*.conf beside it adds flows."""
    agent.configure(flow(logs / "a.log", name="a"))
    os.mkdir(place / "conf.d")
    (place / "conf.d/b.conf").write_text(
        f'flows = ( {{ name = "b"; files = [ "{logs}/b.log" ]; stream = "s1"; '
        'from = "start"; } );\n')
    agent.start()
    quill(logs / "a.log").write(10)
    quill(logs / "b.log").write(10)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()
