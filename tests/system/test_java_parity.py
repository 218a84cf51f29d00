"""What the Java agent was seen to send, we send: every recorded case, as its user would replay it.

An agent.json with one flow and these options, `kinetail import`, then `kinetail explain --json` on the
input, which is one record whatever is in it (--whole).
"""
import base64
import hashlib
import json
import pathlib
import re

import pytest

CASES = [json.loads(line) for line in
         (pathlib.Path(__file__).resolve().parents[1] / "data/parity/java-agent.jsonl")
         .read_text(encoding="utf-8").split("\n") if line]

# ADDMETADATA writes UTC with milliseconds, ADDEC2METADATA the local zone without.
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}Z|[-+]\d{4})"

# Where what the Java agent says does not name the key.
KEYS = {
    "log_custom_names_wrong_count": "customFieldNames", "mp_bad_regex": "matchPattern",
    "mp_no_custom_names": "customFieldNames", "meta_ts_bool": "timestamp",
    "opt_plugin_missing_class": "optionName", "opt_plugin_no_class": "optionName",
}


def import_case(agent, place, case):
    options = case["options"] if isinstance(case["options"], list) else [case["options"]]
    (place / "agent.json").write_text(json.dumps({"flows": [{
        "filePattern": str(place / "input.log"), "kinesisStream": "s1",
        "initialPosition": "START_OF_FILE", "dataProcessingOptions": options}]}))
    return agent.run("import", place / "agent.json")


def input_of(case):
    if case["input"] is None:
        return base64.b64decode(case["input_base64"])
    return case["input"].encode()


def names(which):
    return [pytest.param(c, id=c["name"]) for c in CASES if which(c["result"])]


def test_none_is_missing():
    assert len(CASES) == 239


@pytest.mark.parametrize("case", names(lambda result: result == "config_error"))
def test_what_it_does_not_start_with(agent, place, case):
    """Refused for the same reason, in a sentence that names flow and key."""
    done = import_case(agent, place, case)
    key = KEYS.get(case["name"]) or re.search(r"(?:key|missing): (\w+)", case["error"])[1]
    assert done.returncode == 1 and done.stdout == ""
    assert f"agent.json: flow 1 (s1): dataProcessingOptions[0].{key}: " in done.stderr


@pytest.fixture
def explained(agent, place, endpoint):
    """Records as explain tells them, of a file that is one record."""
    if "explain" not in agent.run("help").stdout:
        pytest.skip("this version does not explain")

    def explain(case, env=None):
        done = import_case(agent, place, case)
        assert done.returncode == 0, done.stderr
        agent.config_text(done.stdout)
        (place / "input.log").write_bytes(input_of(case))
        done = agent.run("explain", "--json", "--whole", "-c", agent.config_file,
                         place / "input.log",
                         env={"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint.url, **(env or {})})
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]
    return explain


def record_of(one):
    record = base64.b64decode(one["record_base64"])
    if "record" in one:
        assert one["record"].encode() == record
    return record


@pytest.mark.parametrize("case", names(lambda result: result != "config_error"))
def test_a_case(explained, case):
    told = explained(case)
    assert len(told) == 1, told
    if case["result"] == "drop":
        assert told[0]["outcome"] == "drop" and told[0].get("reason")
        return
    assert told[0]["outcome"] == "send", told
    record = record_of(told[0])
    if case["result"] == "raw_fallback":
        assert record == input_of(case)
    elif "@TS@" in case["output"]:
        parts = map(re.escape, case["output"].split("@TS@"))
        assert re.fullmatch(TIME.join(parts), record.decode(), re.DOTALL), record
    else:
        assert record == case["output"].encode()


def test_without_metadata(explained, endpoint):
    """No metadata, or none that may be asked: records pass as they are."""
    case = next(c for c in CASES if c["name"] == "ec2_nested")
    for env in ({"AWS_EC2_METADATA_DISABLED": "true"},
                {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1"}):
        assert record_of(explained(case, env)[0]) == input_of(case)


def test_the_key_of_a_record(agent, place, explained):
    """RANDOM is random; DETERMINISTIC is the MD5 of the record in lower-case hex."""
    case = next(c for c in CASES if c["name"] == "csv_numbers")
    (place / "input.log").write_bytes(input_of(case))
    flow = {"filePattern": str(place / "input.log"), "kinesisStream": "s1",
            "dataProcessingOptions": [case["options"]], "partitionKeyOption": "DETERMINISTIC"}
    (place / "agent.json").write_text(json.dumps({"flows": [flow]}))
    agent.config_text(agent.run("import", place / "agent.json").stdout)
    done = agent.run("explain", "--json", "--whole", "-c", agent.config_file, place / "input.log")
    one = json.loads(done.stdout)
    assert one["key"] == hashlib.md5(record_of(one)).hexdigest()
