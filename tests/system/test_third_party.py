"""Servers that others wrote, read back through a client that others wrote.

kinesalite and kinesis-local say whether our requests are understood, moto whether our signatures
are right, and what Firehose would put into a bucket.  third_party.sh installs them;
KT_THIRD_PARTY=none leaves these tests out."""
import gzip
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from harness import KEY_ID, SECRET, Agent, eventually, flow, free_port
from oracle import Oracle, pack

HERE = pathlib.Path(__file__).resolve().parent
COUNT = 3000

pytestmark = pytest.mark.skipif(os.environ.get("KT_THIRD_PARTY") == "none",
                                reason="KT_THIRD_PARTY=none")


@pytest.fixture(scope="session")
def third_party():
    done = subprocess.run([HERE / "third_party.sh"], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, "third_party.sh failed"
    return pathlib.Path(done.stdout.strip())


class Server:
    """One of them, on a port of its own, with boto3 to talk to it."""

    def __init__(self, third_party, place, name, command, ready="/", env=None, port=0):
        self.python = third_party / "venv/bin/python"
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.log = place / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place,
                env={**os.environ, **(env or {})})
        eventually(lambda: self.answers(ready), 60, what=f"an answer of {name}", alive=self.alive)

    def answers(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def alive(self):
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def client(self, *arguments, key_id=KEY_ID, secret=SECRET):
        env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        env.update(AWS_ACCESS_KEY_ID=key_id, AWS_SECRET_ACCESS_KEY=secret,
                   AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=os.devnull,
                   AWS_SHARED_CREDENTIALS_FILE=os.devnull)
        done = subprocess.run([self.python, HERE / "aws_client.py", self.url,
                               *map(str, arguments)], env=env, capture_output=True, text=True,
                              check=False, timeout=120)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split()


@pytest.fixture
def server(request, third_party, place):
    """One of the three, as the test's parameter says."""
    port = free_port()
    programs = third_party / "node_modules"
    if request.param == "kinesalite":
        one = Server(third_party, place, "kinesalite", port=port, command=[
            "node", programs / "kinesalite/cli.js", "--port", str(port),
            "--createStreamMs", "50", "--deleteStreamMs", "50", "--updateStreamMs", "50"])
    elif request.param == "kinesis-local":
        one = Server(third_party, place, "kinesis-local", port=port, ready="/healthcheck",
                     command=["node", programs / "kinesis-local/main.js"], env={
                         "KINESIS_MOCK_CERT_PATH": str(programs / "kinesis-local/server.json"),
                         "KINESIS_MOCK_PLAIN_PORT": str(port),
                         "KINESIS_MOCK_TLS_PORT": str(free_port()),
                         "CREATE_STREAM_DURATION": "50ms", "LOG_LEVEL": "WARN"})
    else:
        one = Server(third_party, place, "moto", port=port, ready="/moto-api/data.json", command=[
            third_party / "venv/bin/moto_server", "-H", "127.0.0.1", "-p", str(port)])
    yield one
    one.stop()


@pytest.fixture
def endpoint(server):
    return server


@pytest.fixture
def oracle(place):
    return Oracle(place / "read-back.records")


def demand_signatures(server):
    """From now on moto looks at each request's."""
    urllib.request.urlopen(urllib.request.Request(
        server.url + "/moto-api/reset-auth", data=b"0", method="POST",
        headers={"Content-Type": "text/plain"})).close()


def read_back(agent, server, oracle, count, **credentials):
    """Reads the stream till `count` records are there; ends the agent; reads it again, for a
    record too many would come after the others."""
    server.client("read", "s1", count, oracle.record_file, **credentials)
    agent.terminate()
    server.client("read", "s1", count, oracle.record_file, **credentials)


@pytest.mark.parametrize("server", ["kinesalite", "kinesis-local"], indirect=True)
def test_read_back_through_a_real_client(logs, agent, server, oracle, quill):
    server.client("create", "s1", 2)
    agent.configure(flow(logs / "*.log")).start()
    q = quill(logs / "app.log")
    for _ in range(6):
        q.write(COUNT // 6)
        time.sleep(0.05)
    read_back(agent, server, oracle, COUNT)
    verdict = oracle.expect()
    assert verdict.delivered == COUNT
    assert agent.complaints() == []


@pytest.mark.parametrize("server", ["moto"], indirect=True)
def test_moto_checks_our_signature(place, logs, agent, server, oracle, quill):
    """In IAM mode moto refuses whoever signs wrongly, in XML, as some services do."""
    server.client("create", "s1", 2)
    key_id, secret = server.client("user", "shipper")
    demand_signatures(server)

    # A wrong secret: one clear message, and nothing arrives.
    wrong = secret[:-1] + ("b" if secret.endswith("a") else "a")
    agent.configure(flow(logs / "*.log"), key_id=key_id, secret=wrong, spool={"limit": 0},
                    drain_timeout="200ms").start()
    quill(logs / "app.log", "first").write(100)
    line = agent.wait_log("SignatureDoesNotMatch")
    assert line.startswith(("<3>", "<4>")), line
    time.sleep(3)
    assert len(agent.complaints()) == 1, agent.log
    agent.terminate()

    # A key that nobody knows.
    other = Agent(place, server)
    other.state_dir = place / "other-state"
    other.configure(flow(logs / "*.log"), key_id="AKIANOBODY0000000000", secret=secret,
                    drain_timeout="200ms").start()
    try:
        other.wait_log("InvalidClientTokenId")
        other.terminate()
    finally:
        other.abandon()

    # The right one: all of it, the lines of before too.  One request at a time, so none from the
    # spool either: moto gives two records one sequence number when it is asked twice at once, and
    # forgets one of them.
    agent.configure(flow(logs / "*.log", in_flight=1), key_id=key_id, secret=secret)
    agent.start()
    quill(logs / "app.log", "second").write(COUNT - 100)
    read_back(agent, server, oracle, COUNT, key_id=key_id, secret=secret)
    assert oracle.expect().delivered == COUNT


# -- Firehose ----------------------------------------------------------------------------------

def open_bucket(server, oracle, folder, unpack=bytes, **credentials):
    """Fetches what was delivered and hands each line of it to the oracle: how many there are.  An
    object is records one behind the other with nothing in between, so each must end in a newline."""
    server.client("fetch", "bucket", folder, **credentials)
    found = []
    for one in sorted(folder.iterdir()):
        text = unpack(one.read_bytes())
        assert text.endswith(b"\n"), f"{one.name} ends with {text[-80:]!r}"
        found += text[:-1].split(b"\n")
    oracle.record_file.write_bytes(b"".join(map(pack, found)))
    return len(found)


def read_bucket(agent, server, oracle, folder, count, *more, **credentials):
    """As read_back, of the bucket."""
    eventually(lambda: open_bucket(server, oracle, folder, *more, **credentials) >= count, 60, 0.2,
               f"{count} lines in the bucket", agent.alive)
    agent.terminate()
    open_bucket(server, oracle, folder, *more, **credentials)


@pytest.mark.parametrize("server", ["moto"], indirect=True)
@pytest.mark.parametrize("shape, unpack", [
    ({}, bytes),
    ({"join": "lines", "join_bytes": "5KiB"}, bytes),
    ({"join": "lines", "compress": "gzip"}, gzip.decompress),
], ids=["lines", "joined", "gzip"])
def test_firehose_delivers_to_s3_intact(place, logs, agent, server, oracle, quill, shape, unpack):
    server.client("deliver", "d1", "bucket")
    agent.configure(flow(logs / "*.log", delivery_stream="d1", **shape)).start()
    q = quill(logs / "app.log")
    for _ in range(6):
        q.write(COUNT // 6)
        time.sleep(0.05)
    read_bucket(agent, server, oracle, place / "objects", COUNT, unpack)
    assert oracle.expect().delivered == COUNT
    assert agent.complaints() == []


@pytest.mark.parametrize("server", ["moto"], indirect=True)
def test_two_services_of_one_agent(place, logs, agent, server, oracle, quill):
    """A stream and a delivery stream of one name; each call is signed for its service."""
    server.client("create", "d1", 1)
    server.client("deliver", "d1", "bucket")
    key_id, secret = server.client("user", "shipper")
    demand_signatures(server)
    agent.configure(flow(logs / "*.log", "a", "d1", in_flight=1),
                    flow(logs / "*.log", "b", delivery_stream="d1"), key_id=key_id,
                    secret=secret).start()
    quill(logs / "app.log").write(COUNT)
    other = Oracle(place / "bucket.records")
    other.wrote({"q0": COUNT})
    server.client("read", "d1", COUNT, oracle.record_file, key_id=key_id, secret=secret)
    read_bucket(agent, server, other, place / "objects", COUNT, key_id=key_id, secret=secret)
    assert oracle.expect().delivered == COUNT
    assert other.expect().delivered == COUNT
    assert agent.complaints() == []
