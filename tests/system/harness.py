"""What system tests stand on: the endpoint, the agent and files, as processes and paths.

Nothing here asserts a promise of the agent but three, which hold in every test: it is alive until
it is ended, it ends with the status one expects, and no sanitizer has anything to say.

The environment may say: KINETAIL (the binary; default ./kinetail), KT_PATIENCE (all timeouts
times this), KT_KEEP=1 (leaves the directories of the tests), KT_SEED (for everything random).
"""
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

from oracle import line, lines

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("KINETAIL") or ROOT / "kinetail").absolute()
PATIENCE = float(os.environ.get("KT_PATIENCE", "1"))
SEED = int(os.environ.get("KT_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)

REGION = "us-east-1"
KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

_SANITIZERS = re.compile(r"(AddressSanitizer|LeakSanitizer|ThreadSanitizer|MemorySanitizer|"
                         r"UndefinedBehaviorSanitizer|runtime error:)")


def eventually(condition, timeout=30.0, step=0.02, what="the condition", alive=None):
    """Waits until condition() is true and gives what it gave."""
    deadline = time.monotonic() + timeout * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if alive is not None:
            alive()
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout * PATIENCE:g} s")
        time.sleep(step)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# -- configuration -----------------------------------------------------------------------------

class Raw(str):
    """Goes into the configuration as it stands."""


def libconfig(value):
    """A Python value in libconfig's language.  A list of dicts is a list, any other an array."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    if isinstance(value, dict):
        return "{ " + " ".join(f"{k} = {libconfig(v)};" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(libconfig(v) for v in value)
        return f"( {inner} )" if value and isinstance(value[0], dict) else f"[ {inner} ]"
    raise TypeError(type(value))


def flow(files, name="f", stream="s1", start="start", linger="50ms", records=None, size=None,
         in_flight=4, **more):
    """A flow with quick settings.  `start` is the key `from`, which Python keeps for itself.  To
    Firehose it goes with delivery_stream="NAME"."""
    batch = {"linger": linger}
    if records:
        batch["records"] = records
    if size:
        batch["bytes"] = size
    files = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    to = {} if "delivery_stream" in more else {"stream": stream}
    return {"name": name, "files": files, **to, "from": start, "batch": batch,
            "max_in_flight": in_flight, **more}


# -- the endpoint ------------------------------------------------------------------------------

class Endpoint:
    """tests/aws as a process: a Kinesis that can be told to misbehave."""

    def __init__(self, place, name="endpoint", streams=("s1:4",), keep="none", arguments=(),
                 scheme="http", faults=(), ca=None):
        self.place = pathlib.Path(place)
        self.name = name
        self.record_file = self.place / f"{name}.records"
        self.scheme = scheme
        self.ca = ca
        self.port = 0
        self.process = None
        self._arguments = [f"--stream={s}" for s in streams] + ["--keep", keep] + list(arguments)
        self._faults = list(faults)
        self.start()

    def start(self):
        """Starts it, or starts it again on the port it had."""
        command = [sys.executable, str(ROOT / "tests" / "aws"), "--port", str(self.port),
                   "--region", REGION, "--key", f"{KEY_ID}:{SECRET}",
                   "--record-file", str(self.record_file)] + self._arguments
        for fault in self._faults:
            command += ["--fault", json.dumps(fault)]
        with open(self.place / f"{self.name}.err", "ab") as errors:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        first = self.process.stdout.readline()
        if not first:
            raise AssertionError("tests/aws does not start: "
                                 + (self.place / f"{self.name}.err").read_text(errors="replace"))
        told = json.loads(first)
        self.port = told["port"]
        self.url = told.get("url") or f"{self.scheme}://127.0.0.1:{self.port}"
        return self

    def stop(self):
        """It is gone, as if its machine were."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(10)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            self.process.stdout.close()
            self.process = None

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_control/{path}", data=data, method=method)
        context = None
        if self.ca is not None:
            context = ssl.create_default_context(cafile=self.ca)
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.read()

    def fault(self, kind, **more):
        """What it does wrong from now on, in place of what it did."""
        self.faults({"kind": kind, **more})

    def faults(self, *faults):
        self.call("POST", "faults", list(faults))

    def heal(self):
        self.call("DELETE", "faults")

    def stats(self):
        return json.loads(self.call("GET", "stats"))

    def records(self, stream="s1"):
        """The accepted records of a stream, as dicts; wants keep="all"."""
        text = self.call("GET", f"records?stream={stream}&after=0")
        return [json.loads(one) for one in text.splitlines()]


# -- the agent ---------------------------------------------------------------------------------

class Agent:
    """The real binary, started and ended as often as a test likes, on one state directory."""

    def __init__(self, place, endpoint=None, binary=BINARY):
        self.place = pathlib.Path(place)
        self.endpoint = endpoint
        self.binary = pathlib.Path(binary)
        self.state_dir = self.place / "state"
        self.config_file = self.place / "kinetail.conf"
        self.process = None
        self.user = None                        # a uid to run as, by setpriv
        self.inside = []                        # a command to run it by: into a namespace
        self.starts = 0
        self._mark = 0                          # where the log of the present start begins

    # configuration

    def configure(self, *flows, secret=SECRET, key_id=KEY_ID, endpoint=None, **more):
        """Writes the configuration; `more` are global keys, and None takes one away."""
        url = endpoint or self.endpoint.url
        settings = {"region": REGION, "state_dir": self.state_dir,
                    "endpoint": {"kinesis": url, "firehose": url},
                    "credentials": {"access_key_id": key_id, "secret_access_key": secret},
                    **more, "flows": list(flows)}
        text = "".join(f"{k} = {libconfig(v)};\n" for k, v in settings.items() if v is not None)
        self.config_text(text)
        return self

    def config_text(self, text):
        self.config_file.write_text(text)
        self.config_file.chmod(0o600)
        if self.user is not None:
            os.chown(self.config_file, self.user, self.user)

    # its life

    @property
    def log_file(self):
        return self.place / "kinetail.err"

    @property
    def log(self):
        """What it has said on standard error since it was last started."""
        try:
            with open(self.log_file, "rb") as file:
                file.seek(self._mark)
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def sanitized(self):
        """Is it built with a sanitizer?  Then its memory says nothing."""
        data = self.binary.read_bytes()
        return b"__asan_init" in data or b"__tsan_init" in data

    def command(self, *arguments):
        prefix = []
        if self.user is not None:
            prefix = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups",
                      "--inh-caps=-all", "--bounding-set=-all"]
        return [*self.inside, *prefix, str(self.binary), *map(str, arguments)]

    @staticmethod
    def environment(**more):
        env = {k: v for k, v in os.environ.items()
               if not k.startswith("AWS_") and k.lower() not in
               ("http_proxy", "https_proxy", "all_proxy", "no_proxy")}
        return {**env, **more}

    def run(self, *arguments, timeout=30, env=None):
        """One command to its end, as subprocess.run gives it."""
        done = subprocess.run(self.command(*arguments), env=self.environment(**(env or {})),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=timeout * PATIENCE, check=False)
        assert not _SANITIZERS.search(done.stderr), done.stderr
        return done

    def start(self, wait=True, env=None):
        assert self.process is None, "it is running"
        self._mark = self.log_file.stat().st_size if self.log_file.exists() else 0
        self.starts += 1
        with open(self.log_file, "ab") as errors:
            self.process = subprocess.Popen(
                self.command("-c", self.config_file), stdin=subprocess.DEVNULL,
                stdout=errors, stderr=errors, env=self.environment(**(env or {})))
        if wait:
            self.wait_log("following")
        return self

    def alive(self):
        assert self.process is not None, "the agent was not started"
        status = self.process.poll()
        assert status is None, f"the agent ended with status {status}:\n{self.tail()}"

    def tail(self, size=3000):
        text = self.log
        report = _SANITIZERS.search(text)
        if report:                              # the beginning of a report is what matters
            return text[report.start():report.start() + 2 * size]
        return text if len(text) <= size else "… " + text[-size:]

    def wait_log(self, pattern, timeout=30):
        """Until its log has a line that matches; gives the line."""
        regex = re.compile(pattern, re.MULTILINE)

        def found():
            text = self.log
            hit = regex.search(text)
            if not hit:
                return None
            begin = text.rfind("\n", 0, hit.start()) + 1
            end = text.find("\n", hit.end())
            return text[begin:end if end >= 0 else len(text)]

        try:
            return eventually(found, timeout, what=f"/{pattern}/ in the log", alive=self.alive)
        except AssertionError as error:
            raise AssertionError(f"{error}\nthe log:\n{self.tail()}") from None

    def history(self, most=20):
        """What it complained of in all its starts, before the present one too."""
        if not self.log_file.exists():
            return ""
        told = [one for one in self.log_file.read_text(errors="replace").splitlines()
                if re.match(r"<[0-4]>", one)]
        return "\n".join(told[-most:])

    def complaints(self, pattern="."):
        """Lines of warning or worse that match."""
        return [one for one in self.log.splitlines()
                if re.match(r"<[0-4]>", one) and re.search(pattern, one)]

    def terminate(self, status=0, timeout=30):
        """SIGTERM; gives the seconds it took to end with this status."""
        self.alive()
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            got = self.process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            tail = self.tail()
            self._end()
            raise AssertionError(
                f"no end {timeout * PATIENCE:g} s after SIGTERM:\n{tail}") from None
        taken = time.monotonic() - start
        self.process = None
        self.check_log()
        assert got == status, f"it ended with status {got}, not {status}:\n{self.tail()}"
        return taken

    def kill(self):
        """SIGKILL, whatever it is doing."""
        self.alive()
        self._end()
        self.check_log()

    def wait_end(self, timeout=30):
        """Until it ends by itself; gives the status."""
        got = self.process.wait(timeout * PATIENCE)
        self.process = None
        self.check_log()
        return got

    def _end(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def check_log(self):
        assert not _SANITIZERS.search(self.log), self.tail()

    def finish(self):
        """At the end of a test: a clean end, if it is still running."""
        if self.process is not None:
            if self.process.poll() is None:
                self.terminate()
            else:
                self.alive()

    def abandon(self):
        """After a failure: no more asserting."""
        if self.process is not None:
            self._end()

    # what the system says about it

    def memory(self, field="VmHWM"):
        """In bytes; VmHWM is the peak, VmRSS what it has now."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as file:
            for one in file:
                if one.startswith(field + ":"):
                    return int(one.split()[1]) * 1024
        raise KeyError(field)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def page_faults(self):
        """How often it has touched memory that was not there, without any reading of disks."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[7])

    def open_files(self):
        """What its descriptors point at."""
        found = []
        folder = f"/proc/{self.process.pid}/fd"
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(os.path.join(folder, name)))
        return found


# -- files -------------------------------------------------------------------------------------

class Quill:
    """Writes numbered lines to one file, here and now, and tells the oracle."""

    def __init__(self, path, oracle, file_id, mode="ab"):
        self.path = pathlib.Path(path)
        self.oracle = oracle
        self.id = file_id.encode()
        self.count = 0
        self.file = open(self.path, mode, buffering=0)

    def write(self, count):
        """`count` lines, whole, in one write(2)."""
        self.raw(lines(self.id, self.count, self.count + count))
        self.count += count
        self.oracle.wrote({self.id: self.count})
        return self

    def next_line(self):
        """The line that would come now, with its newline; who asks writes it, in pieces."""
        text = line(self.id, self.count) + b"\n"
        self.count += 1
        self.oracle.wrote({self.id: self.count})
        return text

    def raw(self, data):
        view = memoryview(data)
        while view:
            view = view[os.write(self.file.fileno(), view):]

    def rename(self, path):
        os.rename(self.path, path)
        self.path = pathlib.Path(path)

    def close(self):
        self.file.close()
        return self


def same_inode_again(path, tries=200):
    """Deletes `path` and creates it anew until it has the inode it had; tells whether it has.

    ext4 gives the number out again at once, as long as nobody keeps the old file open."""
    number = os.stat(path).st_ino
    os.unlink(path)
    spare = []
    try:
        for n in range(tries):
            with open(path, "wb"):
                pass
            if os.stat(path).st_ino == number:
                return True
            os.rename(path, f"{path}.spare{n}")         # keep it busy, the next one is another
            spare.append(f"{path}.spare{n}")
    finally:
        for name in spare:
            with contextlib.suppress(OSError):
                os.unlink(name)
    with open(path, "wb"):
        pass
    return False


def logrotate(place, text, force=True):
    """Debian's logrotate with a configuration and a state file of our own."""
    config = pathlib.Path(place) / "logrotate.conf"
    config.write_text(text)
    config.chmod(0o644)
    command = ["logrotate", "-s", str(pathlib.Path(place) / "logrotate.state")]
    done = subprocess.run(command + (["-f"] if force else []) + [str(config)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "error" not in done.stderr.lower(), done.stderr


def have(program):
    """Where a program is, Debian's administrator's folders too; None if it is nowhere."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")

