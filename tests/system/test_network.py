"""What networks do between us and the service: nothing is lost, nothing is taken for acknowledged, every
request ends, nobody is stormed, and it goes on by itself when the network does.

A table of stories, each with an endpoint, a network (tcp_proxy, netns) and an agent of its own.  They
wait for most of their time, so many are told at once."""
import concurrent.futures
import contextlib
import dataclasses
import pathlib
import shutil
import socket
import ssl
import tempfile
import threading
import time
import typing

import pytest

from harness import BINARY, PATIENCE, Agent, Endpoint, Quill, flow, have
from netns import NO_NAME, NO_ERROR, SERVER_FAILURE, Dns, Netns, Unavailable
from oracle import Oracle
from tcp_proxy import STRAIGHT, ConnectProxy, Manner, TcpProxy, Way
from test_tls import authority, certificate, old_context

AT_ONCE = 12
LINES = 300                     # before, and once more after the trouble
RECORDS = 60                    # in a request, so that several are on their way
NAME = "kinesis.test"
# Four requests are out when trouble begins; then one at a time, with waits that grow.
STORM = 40

OK = b"HTTP/1.1 200 OK\r\n"


def with_length(body, head=OK):
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@dataclasses.dataclass
class Story:
    name: str
    trouble: typing.Callable                        # with the scene: it begins
    says: typing.Optional[str] = "nothing is lost"  # a complaint; None: there must not be one
    lasts: float = 1.0                              # seconds, after it was said
    heal: typing.Optional[typing.Callable] = None   # None: proxy.heal()
    kept: bool = False                              # it begins when connections are there
    most: int = STORM                               # connections, until it is healed
    twice: bool = True                              # lines may arrive twice
    scene: typing.Optional[typing.Callable] = None  # None: Loopback
    window: int = 0
    lines: int = LINES
    arrival: float = 120.0                          # seconds that it may take, when it is healed


class Stranger:
    """A server with whom no TLS comes about; without a context it does not even try."""

    def __init__(self, context):
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            peer.settimeout(5)
            with contextlib.suppress(OSError), peer:
                if self.context is None:
                    peer.recv(4096)
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                else:
                    self.context.wrap_socket(peer, server_side=True).close()

    def stop(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Loopback:
    """The agent, a TcpProxy, the endpoint; http."""

    def __init__(self, story):
        self.story = story
        self.place = pathlib.Path(tempfile.mkdtemp(prefix="kinetail-test-"))
        self.logs = self.place / "logs"
        self.logs.mkdir()
        self.exit = contextlib.ExitStack()
        self.exit.callback(shutil.rmtree, self.place, ignore_errors=True)
        try:
            self.make()
        except BaseException:
            self.exit.close()
            raise

    def make(self, **options):
        self.endpoint = Endpoint(self.place, **options)
        self.exit.callback(self.endpoint.stop)
        self.oracle = Oracle(self.endpoint.record_file)
        self.agent = Agent(self.place, self.endpoint)
        self.exit.callback(self.agent.abandon)
        self.quill = Quill(self.logs / "app.log", self.oracle, "q0")
        self.exit.callback(self.quill.close)
        self.environment = {}
        self.network()

    def network(self):
        self.proxy = TcpProxy(("127.0.0.1", self.endpoint.port), window=self.story.window)
        self.exit.callback(self.proxy.stop)
        self.configure()

    def configure(self, **more):
        more.setdefault("endpoint", self.proxy.url)
        self.agent.configure(flow(self.logs / "*.log", records=RECORDS), **more)

    def write(self):
        self.quill.write(self.story.lines)

    def arrive(self):
        self.oracle.wait(None, self.story.arrival * PATIENCE, alive=self.agent.alive)


class Inside(Loopback):
    """The agent in a network namespace, over TLS and by name; 10.9.0.1 leads to the endpoint."""
    resolv = "nameserver 127.0.0.1\n"

    def make(self):
        self.net = Netns(self.place, resolv=self.resolv)
        self.exit.callback(self.net.close)
        self.ca = authority(self.place, "ca")
        cert, key = certificate(self.place, "server", self.ca, f"DNS:{NAME},IP:127.0.0.1")
        super().make(arguments=["--tls-cert", str(cert), "--tls-key", str(key)], scheme="https",
                     ca=str(self.ca[0]))

    def network(self):
        self.agent.inside = self.net.inside
        self.dns = Dns(self.net, ["10.9.0.1"])
        self.exit.callback(self.dns.stop)
        self.proxy = TcpProxy(("127.0.0.1", self.endpoint.port), [self.net.listen("10.9.0.1")])
        self.exit.callback(self.proxy.stop)
        self.configure()

    @property
    def url(self):
        return f"https://{NAME}:{self.proxy.port}"

    def configure(self, **more):
        super().configure(endpoint=self.url, tls={"ca_file": self.ca[0]}, **more)


class Tls(Loopback):
    """Over TLS on loopback.  Who speaks is a stranger at first, and the endpoint when it is healed."""
    dates = None
    subject = "IP:127.0.0.1"

    def make(self):
        self.ca = authority(self.place, "ca")
        self.ca_file = self.place / "trusted.pem"
        self.ca_file.write_bytes(self.ca[0].read_bytes())
        cert, key = certificate(self.place, "server", self.ca)
        super().make(arguments=["--tls-cert", str(cert), "--tls-key", str(key)], scheme="https",
                     ca=str(self.ca[0]))

    def network(self):
        self.stranger = Stranger(self.context())
        self.exit.callback(self.stranger.stop)
        self.proxy = TcpProxy(("127.0.0.1", self.stranger.port))
        self.exit.callback(self.proxy.stop)
        self.agent.configure(flow(self.logs / "*.log", records=RECORDS),
                             endpoint=f"https://127.0.0.1:{self.proxy.port}",
                             tls={"ca_file": self.ca_file})

    def context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.identity())
        return context

    def identity(self):
        return certificate(self.place, "stranger", self.ca, self.subject, self.dates)


class Expired(Tls):
    dates = ("20200101000000Z", "20200201000000Z")


class TooNew(Tls):
    dates = ("20900101000000Z", "20910101000000Z")


class Another(Tls):
    subject = "DNS:firehose.example.com"


class SelfSigned(Tls):
    def identity(self):
        return authority(self.place, "self")


class Unknown(Tls):
    """It is the endpoint from the beginning, but its authority is not in the file yet."""

    def network(self):
        super().network()
        self.proxy.turn(("127.0.0.1", self.endpoint.port))
        self.ca_file.write_bytes(authority(self.place, "other")[0].read_bytes())


class NoAuthorities(Unknown):
    def network(self):
        super().network()
        self.ca_file.write_text("no certificate\n")


class TooOld(Tls):
    def context(self):
        context = old_context()
        if context is None:
            raise Unavailable("this Python's OpenSSL has no TLS 1.1")
        context.load_cert_chain(*self.identity())
        return context


class Plain(Tls):
    def context(self):
        return None


class DeadFirst(Inside):
    resolv = "nameserver 10.9.0.2\nnameserver 127.0.0.1\n"

    def network(self):
        super().network()
        self.dead = Dns(self.net, address="10.9.0.2")
        self.dead.silent = True
        self.exit.callback(self.dead.stop)


class Moved(Inside):
    """A second address, which leads to the endpoint as well."""

    def network(self):
        super().network()
        self.other = TcpProxy(("127.0.0.1", self.endpoint.port),
                              [self.net.listen("10.9.0.2", self.proxy.port)])
        self.exit.callback(self.other.stop)


class Proxied(Inside):
    """The way is through a proxy at 10.9.0.2; straight on, nobody listens."""
    secure = False              # https://
    password = None             # "user:password", in base64
    user = ""

    def network(self):
        self.agent.inside = self.net.inside
        self.dns = Dns(self.net, ["10.9.0.1"])
        self.exit.callback(self.dns.stop)
        context = None
        if self.secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.identity())
        self.proxy = ConnectProxy(("127.0.0.1", self.endpoint.port),
                                  [self.net.listen("10.9.0.2")], context, self.password)
        self.exit.callback(self.proxy.stop)
        self.settings()

    def identity(self):
        return certificate(self.place, "proxy", self.ca, "IP:10.9.0.2")

    def settings(self):
        self.configure(proxy={"url": self.proxy_url})

    @property
    def proxy_url(self):
        return f"http{'s' if self.secure else ''}://{self.user}10.9.0.2:{self.proxy.port}"

    @property
    def url(self):
        return f"https://{NAME}"


class ByEnvironment(Proxied):
    def settings(self):
        self.configure()
        self.environment = {"HTTPS_PROXY": self.proxy_url, "NO_PROXY": "example.com,10.0.0.0/8"}


class PastProxy(Inside):
    """There is a proxy in the environment, which does not work, but the endpoint is not for it."""

    def network(self):
        super().network()
        self.configure(proxy={"no_proxy": "example.com, .test"})
        self.environment = {"https_proxy": "http://10.9.0.2:1"}


class SecureProxy(Proxied):
    secure = True


class StrangeProxy(SecureProxy):
    def identity(self):
        return certificate(self.place, "proxy", authority(self.place, "other"), "IP:10.9.0.2")


class WithPassword(Proxied):
    password, user = "bWU6cEBzcw==", "me:p%40ss@"


class WithoutPassword(Proxied):
    password = "bWU6cEBzcw=="


# -- troubles ----------------------------------------------------------------------------------

def nothing(scene):
    pass


def manner(**what):
    """For all connections to come."""
    def begin(scene):
        scene.proxy.manner = Manner(**what)
    return begin


def refuse(scene):
    scene.proxy.refuse()


def vanish(scene):
    scene.proxy.vanish()


def each(how):
    def begin(scene):
        scene.proxy.each(how)
        time.sleep(0.2)
    return begin


def reset_when_used(scene):
    scene.proxy.reset_when_used()


def replies(reply=b"", flood=b""):
    return manner(reply=reply, flood=flood)


def dns(**what):
    def change(scene):
        for name, value in what.items():
            setattr(scene.dns, name, value)
    return change


def moved(how):
    """The name has another address, and at the old one nobody is any more."""
    def begin(scene):
        scene.dns.addresses = ["10.9.0.2"]
        if how == "vanish":
            scene.proxy.vanish()
            scene.proxy.each("vanish")
        else:
            scene.proxy.refuse()
            scene.proxy.each("reset")
    return begin


def proxy_says(text):
    def begin(scene):
        scene.proxy.says = text
    return begin


def proxy_is_silent(scene):
    scene.proxy.silent = True


def proxy_heals(scene):
    scene.proxy.says, scene.proxy.silent, scene.proxy.password = b"", False, None
    scene.proxy.each("close")


def endpoint_speaks(scene):
    scene.proxy.turn(("127.0.0.1", scene.endpoint.port))
    scene.proxy.each("close")


def file_is_mended(scene):
    scene.ca_file.write_bytes(scene.ca[0].read_bytes())


def tls(name, scene, says, heal=endpoint_speaks):
    """It is an operator's business: said as an error, with a slow retry."""
    return Story(name, nothing, f"<3>.*: {says}", heal=heal, most=8, twice=False, scene=scene)


MID = 8000                      # bytes: within the body of a request
stories = [
    # before a connection is there
    Story("refused", refuse, "no connection: .*onnect"),
    Story("no answer to the SYN", vanish, "no connection: .*Timeout"),
    Story("closed at once", manner(first="close")),
    Story("reset at once", manner(first="reset")),
    Story("accepted and nothing more", manner(first="hold"), "no answer: Operation too slow"),

    # on the way there
    Story("reset at the first byte", manner(up=Way(1, "reset"))),
    Story("reset in the headers", manner(up=Way(300, "reset"))),
    Story("reset in the body", manner(up=Way(MID, "reset"))),
    Story("closed in the body", manner(up=Way(MID, "close"))),
    Story("held in the body", manner(up=Way(MID, "hold")), "Operation too slow"),
    Story("gone in the body", manner(up=Way(MID, "vanish")), "Operation too slow", lasts=0,
          window=4096),
    Story("a byte a second there", manner(up=Way(rate=1)), "Operation too slow"),
    Story("slow, but it moves", nothing, None, lasts=0, window=4096, lines=450, twice=False,
          heal=lambda scene: scene.hasten(), scene=lambda story: Slow(story)),

    # on the way back: it was stored
    Story("reset before the answer", manner(down=Way(0, "reset"))),
    Story("reset in the answer's headers", manner(down=Way(30, "reset"))),
    Story("closed in the answer's headers", manner(down=Way(30, "close"))),
    Story("reset in the answer's body", manner(down=Way(400, "reset"))),
    Story("closed in the answer's body", manner(down=Way(400, "close"))),
    Story("held before the answer", manner(down=Way(0, "hold")), "Operation too slow"),
    Story("held in the answer", manner(down=Way(400, "hold")), "Operation too slow"),
    Story("a byte a second back", manner(down=Way(rate=1)), "Operation too slow"),

    # connections that were kept
    # Idle as far as the test can see: on a busy machine an answer may still be on its way.
    Story("idle ones are closed", each("close"), None, kept=True),
    Story("idle ones are reset", each("reset"), None, kept=True),
    Story("idle ones are reset when used", reset_when_used, None, kept=True, twice=False),
    # All four are dead; that is found out once, and not for each of them.
    Story("idle ones are forgotten on the way", each("vanish"), "Operation too slow", kept=True,
          lasts=0, twice=False),

    # what is no answer
    Story("2 MiB", replies(OK + b"Content-Length: 2097152\r\n\r\n" + bytes(2 << 20)),
          "answer too long: the answer is longer than 1048576 bytes; check"),
    Story("a body without end", replies(OK + b"\r\n", bytes(1024)), "longer than 1048576"),
    Story("headers without end", replies(OK, b"X-Nothing: 1234\r\n"), "65536 bytes of headers"),
    Story("interim answers without end", replies(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
          "65536 bytes of headers"),
    Story("a portal's page", replies(with_length(b"<html>Please log in</html>")), "unreadable"),
    Story("a portal's redirect", replies(with_length(
        b"", b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n")), "HTTP 302"),
    Story("an empty answer", replies(with_length(b"")), "unreadable"),
    Story("an object", replies(with_length(b"{}")), "unreadable"),
    Story("no HTTP", replies(b"220 mail.example.com ESMTP\r\n")),
    Story("a TLS alert", replies(b"\x15\x03\x01\x00\x02\x02\x46")),
    Story("a chunk that is none", replies(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")),
    Story("compressed, unasked", replies(with_length(
        bytes(20), OK + b"Content-Encoding: gzip\r\n")), "unreadable"),

    # names
    Story("the name is unknown", dns(code=NO_NAME), "name not found: .*; check the endpoint's name",
          heal=dns(code=NO_ERROR), most=0, scene=Inside),
    Story("the name server fails", dns(code=SERVER_FAILURE), "name not found",
          heal=dns(code=NO_ERROR), most=0, scene=Inside),
    Story("the name server says nothing", dns(silent=True), "name not found",
          heal=dns(silent=False), most=0, scene=Inside),
    Story("the first name server is dead", nothing, None, lasts=0, twice=False, scene=DeadFirst),
    Story("the name has a dead address, too", dns(addresses=["10.9.0.2", "10.9.0.1"]), None,
          lasts=0, twice=False, scene=Inside),
    Story("the name has an IPv6 address, too", dns(addresses=["2001:db8::1", "10.9.0.1"]), None,
          lasts=0, twice=False, scene=Inside),
    # libcurl would keep the old one for a minute.
    Story("the address changes, the old one refuses", moved("reset"), kept=True, lasts=0,
          heal=nothing, scene=Moved, arrival=40),
    Story("the address changes, the old one is a hole", moved("vanish"), kept=True, lasts=0,
          heal=nothing, scene=Moved, arrival=40),
    Story("TLS is reset in the handshake", manner(down=Way(100, "reset")), scene=Inside),
    Story("TLS is held in the handshake", manner(down=Way(100, "hold")), "no connection: SSL",
          lasts=0, scene=Inside),

    # TLS
    tls("the certificate has expired", Expired, "certificate expired: .*; renew"),
    tls("the certificate is not valid yet", TooNew, "certificate not valid yet: .*; check this host"),
    tls("the certificate is another's", Another, "certificate of another: .*; check the endpoint"),
    tls("the certificate is self-signed", SelfSigned,
        "self-signed certificate: .*; if you trust it, name it in tls.ca_file"),
    tls("the authority is unknown", Unknown,
        "unknown authority: .*; check the authorities of this host, or name the right one in tls",
        heal=file_is_mended),
    tls("the file of authorities has none", NoAuthorities,
        "tls.ca_file: .*; put certificates in PEM form", heal=file_is_mended),
    tls("TLS is too old", TooOld, "TLS too old: .*; let the endpoint speak TLS 1.2"),
    tls("there is no TLS", Plain, "no TLS: .*; check the endpoint's port"),

    # proxies
    Story("through a proxy", nothing, None, lasts=0, twice=False, scene=Proxied),
    Story("through a proxy of the environment", nothing, None, lasts=0, twice=False,
          scene=ByEnvironment),
    Story("past a proxy", nothing, None, lasts=0, twice=False, scene=PastProxy),
    Story("through a proxy with a password", nothing, None, lasts=0, twice=False,
          scene=WithPassword),
    Story("through a proxy over TLS", nothing, None, lasts=0, twice=False, scene=SecureProxy),
    Story("a proxy wants a password", nothing,
          r"<3>.*proxy wants a password: http://10.9.0.2:\d+ answers CONNECT with HTTP status 407; "
          r"write proxy.url", heal=proxy_heals, most=8, twice=False, scene=WithoutPassword),
    Story("a proxy refuses", proxy_says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
          r"<3>.*proxy refuses: http://10.9.0.2:\d+ answers CONNECT with HTTP status 403; let the "
          r"proxy allow", heal=proxy_heals, most=8, twice=False, scene=Proxied),
    Story("a proxy gets no answer", proxy_says(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
          r"proxy gets no answer: http://10.9.0.2:\d+ answers CONNECT with HTTP status 502",
          heal=proxy_heals, twice=False, scene=Proxied),
    Story("a proxy says nothing", proxy_is_silent, r"no proxy: http://10.9.0.2:\d+: .*tim",
          heal=proxy_heals, lasts=0, twice=False, scene=Proxied),
    Story("a proxy resets", manner(first="reset"), r"no proxy: http://10.9.0.2:\d+: ", twice=False,
          scene=Proxied),
    Story("a proxy that is a stranger", nothing,
          r"<3>.*proxy's certificate: https://10.9.0.2:\d+: .*certificate.*; check the proxy's",
          lasts=0, heal="stop", most=8, scene=StrangeProxy),
]


class Slow(Loopback):
    """3 kB/s, for which one request of these lines needs more than the 30 s of HTTP_STILL_S."""

    def network(self):
        super().network()
        self.proxy.manner = Manner(up=Way(rate=3000))
        self.agent.configure(flow(self.logs / "*.log", in_flight=1, linger="1s"),
                             endpoint=self.proxy.url)

    def hasten(self):
        self.arrive()
        self.proxy.heal()
        for one in self.proxy.connections:
            one.manner = STRAIGHT


# -- telling them ------------------------------------------------------------------------------

def tell(story):
    scene = (story.scene or Loopback)(story)
    try:
        act(story, scene)
    except AssertionError as error:
        raise AssertionError(f"{error}\nits log:\n{scene.agent.tail()}") from None
    finally:
        scene.exit.close()


def act(story, scene):
    agent = scene.agent
    if story.kept:
        agent.start(env=scene.environment)
        scene.write()
        scene.arrive()
    before = scene.proxy.accepted
    story.trouble(scene)
    scene.write()
    if not story.kept:
        agent.start(env=scene.environment)
    if story.says:
        line = agent.wait_log(story.says, timeout=60)
        assert "nothing is lost" in line and line.count("\n") == 0, line
    time.sleep(story.lasts)
    connections = scene.proxy.accepted - before
    if story.says is not None:
        assert connections <= story.most, f"{connections} connections"
    if story.heal == "stop":                        # it does not heal: it is given up
        assert scene.oracle.poll() == 0
        agent.terminate()
        return
    (story.heal or (lambda s: s.proxy.heal()))(scene)
    scene.write()
    scene.arrive()
    complaints = agent.complaints()
    agent.terminate()
    scene.oracle.expect(duplicated=None if story.twice else 0)
    if story.says is None:
        assert not complaints, complaints
    assert "p%40ss" not in agent.log and "p@ss" not in agent.log


def needs(story):
    if story.scene is not None and isinstance(story.scene, type) \
            and issubclass(story.scene, (Inside, Tls)) and have("openssl") is None:
        return "openssl is not installed"
    return None


@pytest.fixture(scope="module")
def told(request):
    """Those that were asked for, all at once; by name."""
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not there: run make, or say KINETAIL=…", pytrace=False)
    chosen = [item.callspec.params["story"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")]
    pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    yield {one.name: pool.submit(tell, one) for one in chosen if needs(one) is None}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("story", stories, ids=lambda s: s.name.replace(" ", "-"))
def test_story(told, story):
    if needs(story):
        pytest.skip(needs(story))
    try:
        told[story.name].result()
    except Unavailable as error:
        pytest.skip(str(error))
