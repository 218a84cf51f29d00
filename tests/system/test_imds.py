"""The instance's metadata, over real sockets: it is asked as an instance may be asked, and what is not
there is done without.  The paths themselves are told in tests/unit/test_imds.c.
"""
import base64
import json
import time

import pytest

from harness import free_port

FLOW = {"kinesisStream": "s1",
        "dataProcessingOptions": [{"optionName": "ADDEC2METADATA", "logFormat": "SYSLOG"}]}


@pytest.fixture
def ask(agent, place, endpoint):
    """What becomes of {} where the metadata is at `url`; and what was said of it."""
    if "explain" not in agent.run("help").stdout:
        pytest.skip("this version does not explain")
    (place / "in.log").write_text("{}\n")
    (place / "agent.json").write_text(json.dumps(
        {"flows": [{**FLOW, "filePattern": str(place / "in.log")}]}))
    agent.config_text(agent.run("import", place / "agent.json").stdout)

    def run(url=None, **env):
        done = agent.run("explain", "--json", "-c", agent.config_file, place / "in.log",
                         env={"AWS_EC2_METADATA_SERVICE_ENDPOINT": url or endpoint.url, **env})
        assert done.returncode == 0, done.stderr
        return json.loads(base64.b64decode(json.loads(done.stdout)["record_base64"])), done.stderr
    return run


def test_all_of_it(ask):
    record, said = ask()
    assert record["privateIp"] == "10.0.0.5" and record["region"] == "us-east-1"
    assert record["tags"] == {"name": "web-1", "env": "Prod"}
    assert "ec2 metadata" not in said


def test_tags_that_are_not_allowed(ask, endpoint):
    endpoint.call("POST", "imds", {"tags": None})
    record, said = ask()
    assert "tags" not in record and record["instanceId"] == "i-0123456789abcdef0"
    assert said.count("ec2 metadata") == 1 and "tags" in said


def test_tags_of_odd_names(ask, endpoint):
    endpoint.call("POST", "imds", {"tags": {"A b": "", "x/y:z@": "1", "É": "é"}})
    record, _ = ask()
    assert record["tags"] == {"a b": "", "x/y:z@": "1", "É": "é"}


def test_no_document(ask, endpoint):
    """Each value is asked for by itself."""
    endpoint.call("POST", "imds", {"document": None})
    record, said = ask()
    assert record["accountId"] == "123456789012" and record["amiId"] == "ami-0abc"
    assert "ec2 metadata" not in said


def test_a_token_that_is_forgotten(ask, endpoint):
    endpoint.fault("error", status=401, operation="ImdsGet", count=1)
    record, said = ask()
    assert record["region"] == "us-east-1" and "ec2 metadata" not in said


@pytest.mark.parametrize("fault", [
    {"kind": "error", "status": 500}, {"kind": "error", "status": 403, "operation": "ImdsToken"},
    {"kind": "stall"}, {"kind": "stall", "operation": "ImdsGet"}, {"kind": "reset_before_store"}],
    ids=["500", "403", "stall", "half", "reset"])
def test_a_service_in_trouble(ask, endpoint, fault):
    """Records go without, and it is said once; nothing waits long."""
    endpoint.faults(fault)
    start = time.monotonic()
    record, said = ask()
    assert record == {}
    assert said.count("ec2 metadata") == 1
    assert time.monotonic() - start < 30


def test_nobody_there(ask):
    record, said = ask(f"http://127.0.0.1:{free_port()}")
    assert record == {} and said.count("ec2 metadata") == 1


def test_it_may_be_forbidden(ask, endpoint):
    record, said = ask(AWS_EC2_METADATA_DISABLED="true")
    assert record == {} and "Imds" not in json.dumps(endpoint.stats()["operations"])


def test_never_through_a_proxy(ask):
    proxy = f"http://127.0.0.1:{free_port()}"
    record, _ = ask(http_proxy=proxy, HTTP_PROXY=proxy, ALL_PROXY=proxy)
    assert record["region"] == "us-east-1"
