"""TLS: our own authority is trusted when it is named, and nobody else is."""
import contextlib
import socket
import ssl
import subprocess
import threading
import time
import warnings

import pytest

from harness import PATIENCE, flow, have

pytestmark = pytest.mark.skipif(have("openssl") is None, reason="openssl is not installed")


def authority(place, name):
    """A CA: (certificate, key)."""
    cert, key = place / f"{name}.pem", place / f"{name}.key"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN=kinetail test {name}",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    return cert, key


AUTHORITY = """[ca]
default_ca = this
[this]
database = {place}/{name}.index
new_certs_dir = {place}
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def certificate(place, name, ca, subject="IP:127.0.0.1,DNS:localhost", dates=None):
    """A server's certificate signed by `ca`: (certificate, key).  `dates` are of the form
    20200101000000Z, from and until."""
    cert, key, request = (place / f"{name}.{end}" for end in ("pem", "key", "csr"))
    extensions = place / f"{name}.ext"
    extensions.write_text(f"subjectAltName={subject}\nbasicConstraints=CA:FALSE\n"
                          "extendedKeyUsage=serverAuth\n")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    if dates is None:
        openssl("x509", "-req", "-in", request, "-CA", ca[0], "-CAkey", ca[1], "-CAcreateserial",
                "-days", "2", "-extfile", extensions, "-out", cert)
        return cert, key

    # Before its version 3.4, openssl takes dates only in this way.
    config = place / f"{name}.conf"
    config.write_text(AUTHORITY.format(place=place, name=name))
    (place / f"{name}.index").touch()
    openssl("ca", "-batch", "-notext", "-config", config, "-in", request, "-out", cert, "-cert",
            ca[0], "-keyfile", ca[1], "-startdate", dates[0], "-enddate", dates[1], "-extfile",
            extensions)
    return cert, key


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def ca(place):
    return authority(place, "ca")


@pytest.fixture
def endpoint(request, place, serve, ca):
    """Over TLS; @pytest.mark.subject(…) says for whom the certificate is."""
    mark = request.node.get_closest_marker("subject")
    cert, key = certificate(place, "server", ca, *(mark.args if mark else ()))
    return serve(arguments=["--tls-cert", str(cert), "--tls-key", str(key)], scheme="https",
                 ca=str(ca[0]))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_our_own_authority(logs, agent, oracle, quill, endpoint, ca, wait_until_delivered, host):
    agent.configure(flow(logs / "*.log"), endpoint=f"https://{host}:{endpoint.port}",
                    tls={"ca_file": ca[0]}).start()
    quill(logs / "app.log").write(2000)
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def refused(agent, logs, oracle, quill, told):
    agent.start()
    q = quill(logs / "app.log").write(500)
    line = agent.wait_log(told)
    assert line.startswith(("<3>", "<4>")), line
    for _ in range(4):
        q.write(100)
        time.sleep(0.5)
    assert len(agent.complaints()) <= 2, agent.log
    assert oracle.poll() == 0 and oracle.records == 0


def test_an_unknown_authority(place, logs, agent, oracle, quill, endpoint, ca,
                              wait_until_delivered):
    """Refused with one clear message; nothing is lost when the right one is named."""
    url = f"https://127.0.0.1:{endpoint.port}"
    agent.configure(flow(logs / "*.log"), endpoint=url,
                    tls={"ca_file": authority(place, "other")[0]}, drain_timeout="200ms")
    refused(agent, logs, oracle, quill, "(?i)certificate")
    agent.terminate()
    agent.configure(flow(logs / "*.log"), endpoint=url, tls={"ca_file": ca[0]})
    agent.start()
    wait_until_delivered()
    agent.terminate()
    oracle.expect()


def test_the_systems_authorities_do_not_know_us(logs, agent, oracle, quill, endpoint):
    agent.configure(flow(logs / "*.log"), endpoint=f"https://127.0.0.1:{endpoint.port}",
                    drain_timeout="200ms")
    refused(agent, logs, oracle, quill, "(?i)certificate")
    agent.terminate()


@pytest.mark.subject("DNS:kinesis.example.org")
def test_a_certificate_for_somebody_else(logs, agent, oracle, quill, endpoint, ca):
    agent.configure(flow(logs / "*.log"), endpoint=f"https://127.0.0.1:{endpoint.port}",
                    tls={"ca_file": ca[0]}, drain_timeout="200ms")
    refused(agent, logs, oracle, quill, "(?i)certificate|subject|host ?name")
    agent.terminate()


class OldServer(threading.Thread):
    """Accepts with an old protocol, and counts with whom it agreed on one."""

    def __init__(self, context):
        super().__init__(daemon=True)
        self.context = context
        self.tried = threading.Event()
        self.spoken = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            peer.settimeout(5)
            try:
                with self.context.wrap_socket(peer, server_side=True):
                    self.spoken += 1
            except OSError:
                pass
            self.tried.set()

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.join(10)


def old_context():
    """TLS 1.1 at most; None if this Python's OpenSSL cannot."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    except (ValueError, ssl.SSLError):
        return None
    return context


def test_no_tls_before_1_2(place, logs, agent, quill, ca):
    """A server that speaks TLS 1.1 at most is not spoken to."""
    cert, key = certificate(place, "old", ca)
    context = old_context()
    if context is None:
        pytest.skip("this Python's OpenSSL has no TLS 1.1")
    context.load_cert_chain(cert, key)
    server = OldServer(context)
    try:
        agent.configure(flow(logs / "*.log"), endpoint=f"https://127.0.0.1:{server.port}",
                        tls={"ca_file": ca[0]}, drain_timeout="200ms").start()
        quill(logs / "app.log").write(10)
        assert server.tried.wait(20 * PATIENCE), "nobody came"
        agent.wait_log("(?i)tls|ssl|protocol|handshake")
        agent.terminate()
        assert server.spoken == 0
    finally:
        server.stop()
