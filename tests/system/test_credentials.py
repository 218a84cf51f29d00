"""Who we are: from the configuration or the environment; and what is said when it is wrong."""
import time

import pytest

from harness import KEY_ID, SECRET, eventually, flow


@pytest.mark.parametrize("wrong,told", [
    ({"secret": SECRET[:-1] + "x"}, "InvalidSignatureException|SignatureDoesNotMatch"),
    ({"key_id": "AKIDNOBODY"}, "UnrecognizedClientException|InvalidClientTokenId"),
], ids=["secret", "key-id"])
def test_a_wrong_key_is_said_once(logs, agent, oracle, quill, wait_until_delivered, wrong, told):
    """One clear message, not silence and not a flood; and nothing is lost when it is put right."""
    agent.configure(flow(logs / "*.log"), drain_timeout="200ms", **wrong).start()
    q = quill(logs / "app.log").write(3000)
    line = agent.wait_log(told)
    assert line.startswith("<3>") or line.startswith("<4>"), line
    assert "credential" in line or "key" in line or "secret" in line, f"what is to be done? {line}"
    for _ in range(6):
        q.write(500)
        time.sleep(0.5)
    assert len(agent.complaints()) == 1, agent.log
    assert oracle.poll() == 0
    assert SECRET not in agent.log
    agent.terminate()
    agent.configure(flow(logs / "*.log"))
    agent.start()
    q.write(100)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_from_the_environment(logs, agent, oracle, quill, wait_until_delivered):
    agent.configure(flow(logs / "*.log"), credentials=None)
    agent.start(env={"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET})
    quill(logs / "app.log").write(100)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_none_at_all(logs, agent):
    """No credentials anywhere: it says so at once."""
    agent.configure(flow(logs / "*.log"), credentials=None)
    done = agent.run("-c", agent.config_file)
    assert done.returncode in (1, 2) and "credentials" in done.stderr.lower(), done.stderr


@pytest.mark.endpoint(arguments=["--clock-offset", "3600"])
def test_our_clock_is_wrong(logs, agent, oracle, quill, endpoint, wait_until_delivered):
    """The service's clock is an hour off: the skew is learnt from its answer; or it is said that
    it is the clock, and not the key, and nothing is lost."""
    agent.configure(flow(logs / "*.log"), drain_timeout="200ms").start()
    quill(logs / "app.log").write(100)
    eventually(lambda: oracle.poll() == 100 or agent.complaints("InvalidSignature"), 10,
               what="delivery or a word", alive=agent.alive)
    if oracle.poll() < 100:
        assert agent.complaints("clock"), agent.log
        agent.terminate()
        endpoint.call("POST", "clock", {"offset_s": 0})
        agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()
