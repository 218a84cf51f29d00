"""kinetail import: agent.json of the Java agent as our configuration, or not at all.

Whatever is written passes `kinetail check`; whatever is refused is named by file, flow and key, and
then nothing is written.
"""
import json

import pytest

FLOW = {"filePattern": "/var/log/app/*.log", "kinesisStream": "s1"}
CSV = {"optionName": "CSVTOJSON", "customFieldNames": ["a", "b"]}
LOG = {"optionName": "LOGTOJSON", "logFormat": "SYSLOG"}
EC2 = {"optionName": "ADDEC2METADATA", "logFormat": "SYSLOG"}
META = {"optionName": "ADDMETADATA", "metadata": {"a": 1}}


class Imported:
    def __init__(self, agent, place):
        self.agent, self.place = agent, place
        self.file = place / "agent.json"

    def __call__(self, config, *arguments, d=None):
        """Imports a text, or a value as JSON; `d`: files of agent.d, as texts or values."""
        self.file.write_bytes(_text(config))
        for name, value in (d or {}).items():
            (self.place / "agent.d").mkdir(exist_ok=True)
            (self.place / "agent.d" / name).write_bytes(_text(value))
        done = self.agent.run("import", self.file, *arguments)
        if done.returncode == 0:
            self.agent.config_text(done.stdout)
            check = self.agent.run("check", "-c", self.agent.config_file)
            assert check.returncode == 0, check.stderr + done.stdout
        else:
            assert done.stdout == ""
            assert done.stderr != ""
        return done

    def flow(self, **more):
        return self({"flows": [{**FLOW, **more}]})

    def printed(self):
        """What was imported last, as `check --print` says it."""
        return self.agent.run("check", "--print", "-c", self.agent.config_file).stdout


def _text(value):
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


@pytest.fixture
def imported(agent, place):
    return Imported(agent, place)


def squeezed(text):
    return " ".join(text.split())


# --- what is carried over -----------------------------------------------------------------------

@pytest.mark.parametrize("key,value,written", [
    ("kinesisStream", "orders", 'stream = "orders";'),
    ("deliveryStream", "d-1", 'delivery_stream = "d-1";'),
    ("initialPosition", "START_OF_FILE", 'from = "start";'),
    ("initialPosition", "END_OF_FILE", 'from = "end";'),
    ("initialPosition", None, 'from = "end";'),
    ("skipHeaderLines", 3, "skip_header_lines = 3;"),
    ("skipHeaderLines", "0x10", "skip_header_lines = 16;"),
    ("skipHeaderLines", "010", "skip_header_lines = 8;"),
    ("skipHeaderLines", "#a", "skip_header_lines = 10;"),
    ("skipHeaderLines", "+5", "skip_header_lines = 5;"),
    ("maxBufferAgeMillis", 1000, 'linger = "1s";'),
    ("maxBufferAgeMillis", "900000", 'linger = "15m";'),
    ("maxBufferSizeRecords", 1, "records = 1;"),
    ("maxBufferSizeRecords", 500, "records = 500;"),
    ("maxBufferSizeBytes", 5242880, 'bytes = "5MiB";'),
    ("maxBufferSizeBytes", 1, 'bytes = "1MiB";'),
    ("partitionKeyOption", "RANDOM", 'key = "random";'),
    ("partitionKeyOption", "DETERMINISTIC", 'key = "hash";'),
    ("truncatedRecordTerminator", "...\n", 'truncated_suffix = "...\\x0A";'),
    ("truncatedRecordTerminator", "", 'truncated_suffix = "";'),
    ("multiLineStartPattern", "", 'from = "end"; newline = true;'),
    ("multiLineStartPattern", None, 'from = "end"; newline = true;'),
    ("fileFooterPattern", "", "newline = true;"),
    ("dataProcessingOptions", [], "newline = true;"),
    ("dataProcessingOptions", None, "newline = true;"),
    ("dataProcessingOptions", [None], "newline = true;"),
    ("dataProcessingOptions", "no list", "newline = true;"),
    ("retryMaxBackoffMillis", "5", '# "retryMaxBackoffMillis": "5" -- '),
    ("log.emitInternalMetrics", "YES", '# "log.emitInternalMetrics": "YES" -- '),
    ("a\nflow = \"x", {"b": [1, "\n"]}, '# "a\\nflow = \\"x": {"b":[1,"\\n"]} -- not a key'),
])
def test_a_key_of_a_flow(imported, key, value, written):
    done = imported.flow(**{key: value})
    assert done.returncode == 0, done.stderr
    assert written in squeezed(done.stdout)


@pytest.mark.parametrize("pattern,files", [
    ("/var/log/app.log", '"/var/log/app.log"'),
    ("/var//log///app.log*", '"/var/log/app.log*"'),
    ("/app.log", '"/app.log"'),
    ("/d/a*b?[a-c]{x,y}", '"/d/a*b?[a-c]{x,y}"'),
    ("/d/a[!b]", '"/d/a[!b]"'),
    ("/d/[0-9]x", '"/d/[0-9]x"'),
    ("/a*b/c{d}/e[f]/g,h/app", '"/a\\\\*b/c\\\\{d\\\\}/e\\\\[f\\\\]/g\\\\,h/app"'),
    ("/a\\b/app", '"/a\\\\\\\\b/app"'),
    ("/d/a\\*", '"/d/a\\\\*"'),
    ("/d/a**b", '"/d/a*b"'),
    ("/d/*", '"/d/*", "/d/.*"'),
    ("/d/*.log", '"/d/*.log", "/d/.*.log", "/d/.log"'),
    ("/d/?x", '"/d/?x", "/d/.x"'),
])
def test_files(imported, pattern, files):
    """A directory is literal, and a wildcard at the beginning matches a dot."""
    done = imported.flow(filePattern=pattern)
    assert done.returncode == 0, done.stderr
    assert f"files = [ {files} ];" in done.stdout


@pytest.mark.parametrize("keys,written", [
    ({"kinesis.endpoint": "kinesis.eu-west-1.amazonaws.com"},
     'region = "eu-west-1"; endpoint = { kinesis = "https://kinesis.eu-west-1.amazonaws.com"; };'),
    ({"kinesis.endpoint": "https://kinesis.cn-north-1.amazonaws.com.cn"}, 'region = "cn-north-1";'),
    ({"kinesis.endpoint": "http://127.0.0.1:4567", "kinesis.region": "eu-west-1"},
     'region = "eu-west-1"; endpoint = { kinesis = "http://127.0.0.1:4567"; };'),
    ({"kinesis.region": "ap-south-1"}, 'region = "ap-south-1";'),
    ({}, 'region = "us-east-1";'),
    ({"shutdownTimeoutMillis": "0x1000"}, 'drain_timeout = "4096ms";'),
    ({"awsAccessKeyId": "AKIDEXAMPLE", "awsSecretAccessKey": "secret"},
     'access_key_id = "AKIDEXAMPLE"; secret_access_key = "secret";'),
    ({"cloudwatch.emitMetrics": "N"}, '# "cloudwatch.emitMetrics": "N" -- '),
    ({"cloudwatch.namespace": "x"}, '# "cloudwatch.namespace": "x" -- '),
    ({"checkpointFile": "/x"}, '# "checkpointFile": "/x" -- '),
    ({"log.file": "/x"}, '# "log.file": "/x" -- '),
    ({"what": [True, None, 1.5]}, '# "what": [true,null,1.5] -- not a key'),
])
def test_a_key_above_the_flows(imported, keys, written):
    done = imported({**keys, "flows": [FLOW]})
    assert done.returncode == 0, done.stderr
    assert written in squeezed(done.stdout)


def test_a_role_is_not_lost(imported):
    done = imported({"assumeRoleARN": "arn:aws:iam::1:role/r", "assumeRoleExternalId": "e",
                     "flows": [FLOW]})
    assert done.returncode == 0, done.stderr
    assert "arn:aws:iam::1:role/r" in done.stdout and '"e"' in done.stdout


def test_a_secret_is_warned_of_and_not_said(imported):
    done = imported({"awsAccessKeyId": "AKIDEXAMPLE", "awsSecretAccessKey": "hush",
                     "flows": [FLOW]})
    assert "600" in done.stderr and "600" in done.stdout
    assert "hush" not in done.stderr


def test_half_a_key_is_passed_over(imported):
    done = imported({"awsSecretAccessKey": "hush", "flows": [FLOW]})
    assert done.returncode == 0, done.stderr
    assert "secret_access_key =" not in done.stdout and "hush" not in done.stdout + done.stderr


@pytest.mark.parametrize("options,written", [
    ([{"optionName": "SINGLELINE"}], '{ format = "java_singleline"; }'),
    ([{"optionName": "SINGLELINE", "parseOptions": ["NO_TRIM", "ESCAPE_NEW_LINE", "X"]}],
     '{ format = "java_singleline"; trim = false; escape_newline = true; }'),
    ([CSV], '{ format = "java_csv"; fields = [ "a", "b" ]; }'),
    ([{**CSV, "customFieldNames": [1, 1.5, True, 'q"\\'], "jsonFormat": "PRETTYPRINT"}],
     '{ format = "java_csv"; fields = [ "1", "1.5", "true", "q\\"\\\\" ]; pretty = true; }'),
    ([{**CSV, "delimiter": "\\|", "jsonFormat": None}],
     '{ format = "java_csv"; fields = [ "a", "b" ]; delimiter = "\\\\|"; }'),
    ([LOG], '{ format = "java_log"; log = "SYSLOG"; }'),
    ([{**LOG, "matchPattern": "(?<x>.)(.)", "customFieldNames": ["a", "b"]}],
     '{ format = "java_log"; log = "SYSLOG"; fields = [ "a", "b" ]; match = "(?<x>.)(.)"; }'),
    ([{**LOG, "customFieldNames": None}], '{ format = "java_log"; log = "SYSLOG"; }'),
    ([{**META, "timestamp": "True"}],
     '{ format = "java_metadata"; metadata = "{\\"a\\":1}"; timestamp = true; }'),
    ([{**META, "timestamp": "yes"}], '{ format = "java_metadata"; metadata = "{\\"a\\":1}"; }'),
    ([{"optionName": "ADDMETADATA"}], '{ format = "java_metadata"; metadata = "null"; }'),
    ([EC2], '{ format = "java_ec2_metadata"; }'),
    ([{**EC2, "metadataTTL": "60"}], '{ format = "java_ec2_metadata"; ttl = "1m"; }'),
    ([{**EC2, "metadataTTL": "soon"}], '{ format = "java_ec2_metadata"; }'),
    ([{**EC2, "metadataTTL": 0}], '{ format = "java_ec2_metadata"; ttl = "1s"; }'),
    ([{"optionName": "ADDBRACKETS"}, CSV],
     '{ format = "java_brackets"; }, { format = "java_csv"; fields = [ "a", "b" ]; }'),
])
def test_a_converter(imported, options, written):
    done = imported.flow(dataProcessingOptions=options)
    assert done.returncode == 0, done.stderr
    assert f"convert = ( {written} );" in squeezed(done.stdout)


@pytest.mark.parametrize("option", [
    {**CSV, "delimiter": "("}, {**CSV, "delimiter": "\\"}, {**CSV, "delimiter": None},
    {**CSV, "customFieldNames": ["a", None]}, {**CSV, "customFieldNames": None},
], ids=["group", "backslash", "null", "null-name", "no-names"])
@pytest.mark.parametrize("before", [[], [{"optionName": "SINGLELINE"}, META]], ids=["alone", "last"])
def test_what_always_fails_is_raw(imported, option, before):
    """The Java agent sends the original record when a converter throws: then there is none."""
    done = imported.flow(dataProcessingOptions=[*before, option, {"optionName": "ADDBRACKETS"}])
    assert done.returncode == 0, done.stderr
    assert "convert" not in imported.printed().replace("convert = ( );", "")
    assert '# "dataProcessingOptions": [' in done.stdout
    assert "as they were" in done.stderr


def test_two_flows_of_one_stream(imported):
    done = imported({"flows": [FLOW, {**FLOW, "filePattern": "/a"}, {**FLOW, "filePattern": "/b"}]})
    assert done.returncode == 0, done.stderr
    assert [n for n in ("s1", "s1-2", "s1-3") if f'      name = "{n}";\n' in done.stdout] == \
        ["s1", "s1-2", "s1-3"]


def test_firehose_wins(imported):
    done = imported.flow(deliveryStream="d", partitionKeyOption="NONSENSE")
    assert done.returncode == 0, done.stderr
    assert 'delivery_stream = "d";' in done.stdout and '# "kinesisStream": "s1"' in done.stdout


def test_lines_are_joined_for_firehose_only(imported):
    assert 'join = "lines"; join_bytes = "50000B";' in squeezed(
        imported.flow(deliveryStream="d", aggregatedRecordSizeBytes="50000").stdout
        .replace('"50000"', '"50000B"'))
    assert "join =" not in imported.flow(aggregatedRecordSizeBytes=50000).stdout


# --- the file itself ----------------------------------------------------------------------------

def test_comments(imported):
    done = imported('/* " */ {// {\n "flows": [ /**/ {"filePattern": "/a//b*/*c", // "x": 1\n'
                    '"kinesisStream" /* : */ : "s\\"/*1" }]} trailing')
    assert done.returncode == 1 and 's"/*1' in done.stderr, done.stderr
    done = imported('/* " */ {// {\n "flows": [ /**/ {"filePattern": "/a//b*/*c", // "x": 1\n'
                    '"kinesisStream" /* : */ : "s1" }]} trailing')
    assert done.returncode == 0 and '"/a/b\\\\*/*c"' in done.stdout, done.stderr + done.stdout


def test_the_last_of_equal_keys_counts(imported):
    done = imported('\ufeff{"flows": 1, "flows": [{"kinesisStream": "s2", "filePattern": "/a",'
                    ' "kinesisStream": "s3"}]}')
    assert done.returncode == 0 and 'stream = "s3";' in done.stdout, done.stderr


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "{'flows': []}", '{"flows": [}', "{} /*", '{"flows": []}', "{}",
    '{"flows": {}}', '{"flows": [1]}', '{"flows": [{}]}', '{"flows": null}', "[" * 100000,
    '{"a": 01, "flows": []}', b'\x00', b'\xff\xfe{\x00}\x00', '{"flows": [{"kinesisStream": "\\u0000"'
    ', "filePattern": "/a"}]}',
])
def test_a_file_that_is_none(imported, text):
    done = imported(text)
    assert done.returncode == 1
    assert done.stderr.startswith(str(imported.file)), done.stderr


@pytest.mark.parametrize("arguments", [[], ["--what"], ["a", "b"], ["a", "--agent-d"]])
def test_wrong_usage(agent, arguments):
    assert agent.run("import", *arguments).returncode == 2


def test_no_file(agent, place):
    done = agent.run("import", place / "none.json")
    assert done.returncode == 1 and "none.json" in done.stderr
    done = agent.run("import", place)
    assert done.returncode == 1 and done.stdout == ""


def test_agent_d(imported, place):
    """Flows of all files beside agent.json; what is no JSON is passed over, as the Java agent does."""
    done = imported({"flows": [FLOW]}, d={
        "b.json": {"flows": [{"filePattern": "/b", "deliveryStream": "b"}], "kinesis.region": "x"},
        "a": {"flows": [{"filePattern": "/a", "kinesisStream": "a"}]},
        "broken.json": "{", "none.json": {}, ".hidden": {"flows": [{"filePattern": "/h",
                                                                   "kinesisStream": "h"}]}})
    assert done.returncode == 0, done.stderr
    names = [line.split('"')[1] for line in done.stdout.splitlines() if line.startswith("      name")]
    assert sorted(names) == ["a", "b", "h", "s1"] and names[0] == "s1"
    assert "broken.json" in done.stderr
    assert 'region = "us-east-1"' in done.stdout

    (place / "other").mkdir()
    done = imported({"flows": [FLOW]}, "--agent-d", place / "other")
    assert done.returncode == 0 and '"/b"' not in done.stdout
    done = imported({"flows": [FLOW]}, "--agent-d", place / "nowhere")
    assert done.returncode == 1 and "nowhere" in done.stderr


def test_all_flows_may_be_in_agent_d(imported):
    done = imported({"flows": []}, d={"a": {"flows": [FLOW]}})
    assert done.returncode == 0, done.stderr


# --- what is refused ----------------------------------------------------------------------------

@pytest.mark.parametrize("key,value,words", [
    ("filePattern", None, "missing"),
    ("filePattern", "app.log", "relative"),
    ("filePattern", "log/app.log", "relative"),
    ("filePattern", "/var/log/", "directory"),
    ("filePattern", "/d/a[b", "not closed"),
    ("filePattern", "/d/[^a]", "something else"),
    ("filePattern", "/d/{a,{b}}", "braces"),
    ("filePattern", "/d/{a", "not closed"),
    ("filePattern", "/d/a\\", "backslash"),
    ("filePattern", ["/d/a"], "text"),
    ("kinesisStream", None, "missing"),
    ("initialPosition", "start_of_file", "START_OF_FILE"),
    ("partitionKeyOption", "RANDOMLY", "DETERMINISTIC"),
    ("skipHeaderLines", "many", "whole number"),
    ("skipHeaderLines", "08", "whole number"),
    ("skipHeaderLines", "0x", "whole number"),
    ("skipHeaderLines", 1.0, "whole number"),
    ("skipHeaderLines", None, "whole number"),
    ("skipHeaderLines", True, "whole number"),
    ("skipHeaderLines", 1001, "1000"),
    ("skipHeaderLines", 1 << 40, "outside"),
    ("maxBufferAgeMillis", 999, "1000 to 900000"),
    ("maxBufferAgeMillis", 900001, "1000 to 900000"),
    ("maxBufferSizeRecords", 0, "1 to 500"),
    ("maxBufferSizeRecords", 501, "1 to 500"),
    ("maxBufferSizeBytes", 5242881, "5242880"),
    ("publishQueueCapacity", "x", "whole number"),
    ("log.emitInternalMetrics", "perhaps", "neither true nor false"),
    ("truncatedRecordTerminator", None, "null"),
    ("fileFooterPattern", "^EOF", "ends the reading"),
    ("multiLineStartPattern", "(", "does not start"),
    ("multiLineStartPattern", "a\\Gb", "without changing its meaning"),
    ("dataProcessingOptions", [1], "no group"),
])
def test_a_key_that_is_refused(imported, key, value, words):
    done = imported.flow(**{key: value})
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith(f"{imported.file}: flow 1"), done.stderr
    assert key in done.stderr and words in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("option,key", [
    ({}, "optionName"), ({"optionName": "singleline"}, "optionName"),
    ({"optionName": "USINGPLUGGIN", "className": "a.B"}, "optionName"),
    ({"optionName": "CSVTOJSON"}, "customFieldNames"),
    ({**CSV, "customFieldNames": "a,b"}, "customFieldNames"),
    ({**CSV, "jsonFormat": "pretty"}, "jsonFormat"),
    ({**CSV, "delimiter": ["a"]}, "delimiter"),
    ({"optionName": "LOGTOJSON"}, "logFormat"),
    ({**LOG, "logFormat": "syslog"}, "logFormat"),
    ({**LOG, "customFieldNames": ["a"]}, "customFieldNames"),
    ({**LOG, "customFieldNames": []}, "customFieldNames"),
    ({**LOG, "customFieldNames": ["a", "b", "c", "d", None]}, "customFieldNames"),
    ({**LOG, "matchPattern": "(.)"}, "customFieldNames"),
    ({**LOG, "matchPattern": "(", "customFieldNames": ["a"]}, "matchPattern"),
    ({**META, "timestamp": True}, "timestamp"), ({**META, "timestamp": 1}, "timestamp"),
    ({**META, "jsonFormat": "X"}, "jsonFormat"),
    ({"optionName": "ADDEC2METADATA"}, "logFormat"),
    ({**EC2, "matchPattern": "."}, "customFieldNames"),
])
def test_a_converter_that_is_refused(imported, option, key):
    done = imported.flow(dataProcessingOptions=[{"optionName": "SINGLELINE"}, option])
    assert done.returncode == 1, done.stdout
    assert f"flow 1 (s1): dataProcessingOptions[1].{key}: " in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("flow,key", [
    ({"deliveryStream": "d", "aggregatedRecordSizeBytes": 5000, "dataProcessingOptions": [CSV]},
     "aggregatedRecordSizeBytes"),
    ({"deliveryStream": "d", "maxBufferSizeBytes": 4194305}, "maxBufferSizeBytes"),
    ({"dataProcessingOptions": [LOG, {**CSV, "delimiter": "("}]}, "optionName"),
])
def test_combinations_that_are_refused(imported, flow, key):
    done = imported.flow(**flow)
    assert done.returncode == 1 and key in done.stderr, done.stderr


@pytest.mark.parametrize("keys,key", [
    ({"userDefinedCredentialsProvider.classname": "a.B"}, "userDefinedCredentialsProvider"),
    ({"cloudwatch.emitMetrics": "maybe"}, "cloudwatch.emitMetrics"),
    ({"maxSendingThreads": "two"}, "maxSendingThreads"),
    ({"shutdownTimeoutMillis": "2s"}, "shutdownTimeoutMillis"),
    ({"kinesis.region": "EU West"}, "region"),
    ({"kinesis.endpoint": "http://example.com"}, "endpoint.kinesis"),
])
def test_a_key_above_the_flows_that_is_refused(imported, keys, key):
    done = imported({**keys, "flows": [FLOW]})
    assert done.returncode == 1 and key in done.stderr, done.stderr


def test_two_flows_that_are_one(imported):
    """Of one stream and the same files, wherever they are written: the Java agent refuses them."""
    done = imported({"flows": [FLOW, {**FLOW, "deliveryStream": "s1"}, FLOW]})
    assert done.returncode == 1 and "flow 3 (s1): filePattern: " in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = imported({"flows": [FLOW]}, d={"a": {"flows": [FLOW]}})
    assert done.returncode == 1 and "agent.d/a: flow 1 (s1): filePattern: " in done.stderr


def test_everything_that_is_refused_is_said_at_once(imported):
    done = imported({"userDefinedCredentialsProvider.x": 1, "flows": [
        {**FLOW, "skipHeaderLines": "x", "initialPosition": "y"}, FLOW,
        {"filePattern": "a", "fileFooterPattern": "z", "kinesisStream": "s2"}]},
        d={"more": {"flows": [{"filePattern": "/a"}]}})
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and len(lines) == 6, done.stderr
    assert sum("flow 3 (s2)" in one for one in lines) == 2
    assert sum("agent.d/more: flow 1" in one for one in lines) == 1


def test_a_terminal_is_left_alone(imported):
    """What is in the file is shown without what a terminal obeys."""
    done = imported.flow(initialPosition="\x1b[31mred\r\n")
    assert done.returncode == 1 and "\x1b" not in done.stderr and "\r" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
