"""Stopping, starting again, and who may start at all."""
import os
import subprocess
import time

import pytest

from harness import flow


def test_a_clean_restart_sends_nothing_twice(logs, agent, oracle, quill, wait_until_delivered):
    agent.configure(flow(logs / "*.log")).start()
    a, b = quill(logs / "a.log").write(5000), quill(logs / "b.log").write(100)
    wait_until_delivered()
    for _ in range(3):
        agent.terminate()
        a.write(500)
        agent.start()
        b.write(500)
        wait_until_delivered()
    agent.terminate()
    agent.start()
    time.sleep(0.5)
    agent.terminate()
    oracle.expect()


def test_a_restart_in_the_middle_of_the_work(logs, agent, oracle, writer, wait_until_delivered):
    """SIGTERM while lines pour in: what it read is delivered, the rest stays in the file."""
    agent.configure(flow(logs / "*.log")).start()
    w = writer(logs / "app.log", rate=20000)
    for _ in range(5):
        time.sleep(0.4)
        agent.terminate()
        agent.start()
    w.stop()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_a_restart_after_a_rename(logs, agent, oracle, quill, wait_until_delivered):
    log = logs / "app.log"
    agent.configure(flow(logs / "*.log")).start()
    q = quill(log).write(2000)
    wait_until_delivered()
    agent.terminate()
    q.write(500)
    q.rename(logs / "app.log-20261120")
    quill(log).write(300)
    q.write(200)
    agent.start()
    wait_until_delivered()
    q.write(50)                                 # and it is still being written to
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_sigterm_drains(logs, agent, oracle, quill, endpoint):
    """Everything that was read is acknowledged before it ends, and the offsets are saved."""
    endpoint.fault("slow", delay_ms=400)
    agent.configure(flow(logs / "*.log", linger="10s", in_flight=2), drain_timeout="10s").start()
    quill(logs / "app.log").write(900)
    time.sleep(1)                               # 500 may fly; 400 wait for their linger
    assert oracle.poll() < 900, "the batch did not linger: the test shows nothing"
    taken = agent.terminate(timeout=10)
    assert taken < 8, f"draining took {taken:.1f} s"
    oracle.expect()
    endpoint.heal()
    agent.start()
    quill(logs / "app.log").write(10)
    time.sleep(0.5)
    agent.terminate()
    oracle.expect()


def test_sigterm_gives_up_after_drain_timeout(logs, agent, oracle, quill, endpoint,
                                              wait_until_delivered):
    """A service that does not answer cannot hold it; the lines are still in the file."""
    agent.configure(flow(logs / "*.log"), drain_timeout="1s").start()
    endpoint.fault("stall")
    quill(logs / "app.log").write(2000)
    time.sleep(0.7)
    taken = agent.terminate()
    assert 0.5 < taken < 4, f"{taken:.1f} s with drain_timeout = 1s"
    endpoint.heal()
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=2000)


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.05])
def test_sigterm_while_it_starts(logs, agent, oracle, quill, wait_until_delivered, moment):
    """At any moment of its birth: it ends, and the next one does the work."""
    quill(logs / "app.log").write(1000)
    agent.configure(flow(logs / "*.log")).start(wait=False)
    time.sleep(moment)
    agent.process.terminate()
    status = agent.wait_end()
    assert status in (0, -15)                   # -15: before the handler was there
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=0 if status == 0 else 1000)


def test_a_second_agent_is_refused(logs, agent, oracle, quill, wait_until_delivered):
    """One state directory, one agent: the second says so and ends; the first does not notice."""
    agent.configure(flow(logs / "*.log")).start()
    quill(logs / "app.log").write(100)
    wait_until_delivered()
    second = agent.run("-c", agent.config_file)
    assert second.returncode == 1, second.stderr
    complaint = [one for one in second.stderr.splitlines() if one.startswith("<3>")]
    assert len(complaint) == 1, second.stderr
    assert str(agent.state_dir) in complaint[0]
    assert any(word in complaint[0] for word in ("another", "already", "lock", "in use"))
    quill(logs / "app.log").write(100)
    wait_until_delivered()
    time.sleep(0.3)                             # the answer has come, and its fact is written
    agent.kill()                                # the lock ends with its holder
    agent.start()
    agent.terminate()
    oracle.expect()


def test_the_state_directory_can_be_named_on_the_command_line(place, logs, agent, oracle, quill,
                                                              wait_until_delivered):
    elsewhere = place / "elsewhere"
    agent.configure(flow(logs / "*.log"))
    with open(agent.log_file, "ab") as errors:
        agent.process = subprocess.Popen(
            agent.command("-c", agent.config_file, "--state-dir", elsewhere),
            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=agent.environment())
    quill(logs / "app.log").write(100)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()
    assert os.listdir(elsewhere) and not agent.state_dir.exists()
