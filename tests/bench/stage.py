"""stage.py -- what a bench is played on: processors, the sink, and kinetail as a process."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

STALL_SECONDS = 60          # no record for so long: something is lost
EXIT_SECONDS = 60           # more than the drain needs when nothing is in flight

CONFIG = """\
region = "us-east-1";
state_dir = "{state_dir}";
{top}
endpoint = {{ kinesis = "http://127.0.0.1:{port}"; }};
credentials = {{ access_key_id = "AKIDEXAMPLE"; secret_access_key = "bench"; }};
flows = (
  {{ name = "bench"; files = [ "{files}" ]; stream = "bench"; from = "start"; {more} }}
);
"""


class Failed(Exception):
    """Records were lost, or a program did not do its part."""


def say(text):
    if sys.stderr.isatty():
        print(f"bench: {text}", file=sys.stderr)


def plural(count):
    return f"{count:,} file{'s' if count > 1 else ''}"


class Cpus:
    """Who runs where: what is measured has a processor for itself, if there are two."""

    def __init__(self):
        self.all = os.sched_getaffinity(0)
        cpus = sorted(self.all)
        self.split = len(cpus) >= 2
        self.measured = {cpus[0]} if self.split else self.all
        self.others = set(cpus[1:]) if self.split else self.all

    def describe(self):
        if not self.split:
            return "one CPU for everything: MB/s and latency mean little"
        return (f"kinetail and floor pinned to CPU {name_cpus(self.measured)}; "
                f"sink, writer and this script to {name_cpus(self.others)}")

    @contextlib.contextmanager
    def on(self, cpus):
        """What is started inside inherits these processors."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


def name_cpus(cpus):
    cpus = sorted(cpus)
    return str(cpus[0]) if len(cpus) == 1 else f"{cpus[0]}-{cpus[-1]}"


class Process:
    """A program we started; it never outlives the `with`, and only it is ever signalled."""

    def __init__(self, args, **options):
        self.name = pathlib.Path(args[0]).name
        self.rusage = None
        self.popen = subprocess.Popen(args, stdin=subprocess.DEVNULL, **options)
        self.pid = self.popen.pid

    def poll(self):
        """The exit status once it has ended (negative: the signal), else None."""
        if self.popen.returncode is None:
            pid, status, rusage = os.wait4(self.pid, os.WNOHANG)
            if pid == self.pid:
                self.rusage = rusage
                self.popen.returncode = os.waitstatus_to_exitcode(status)
        return self.popen.returncode

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                raise Failed(f"{self.name} did not end within {seconds} s")
            time.sleep(0.01)
        return self.popen.returncode

    def terminate(self):
        os.kill(self.pid, signal.SIGTERM)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(EXIT_SECONDS)
        if self.popen.stdout is not None:
            self.popen.stdout.close()


class Sink(Process):
    def __init__(self, bench, *options):
        with bench.cpus.on(bench.cpus.others):
            super().__init__([bench.tool("sink"), *options], stdout=subprocess.PIPE, text=True)
        line = self.popen.stdout.readline()
        if not line:
            raise Failed("the sink did not start")
        self.port = int(line)
        self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method, path):
        self.http.request(method, path)
        return json.loads(self.http.getresponse().read())

    def stats(self):
        return self.ask("GET", "/stats")

    def reset(self):
        self.ask("POST", "/reset")

    def wait_for(self, count, sender, key="records", patience=STALL_SECONDS, enough=False):
        """Waits until `count` records have come (key="distinct": different ones); the sender must
        stay alive meanwhile.  `enough`: when nothing comes any more, what came is enough."""
        seen, moved = -1, time.monotonic()
        while True:
            stats = self.stats()
            if stats[key] >= count:
                return stats
            if stats[key] != seen:
                seen, moved = stats[key], time.monotonic()
            if enough and time.monotonic() - moved > patience and sender.poll() is None:
                return stats
            if sender.poll() is not None:
                raise Failed(f"kinetail ended too early with {sender.poll()} after {seen:,} of "
                             f"{count:,} records\n{sender.last_words()}")
            if time.monotonic() - moved > patience:
                raise Failed(f"nothing came for {patience} s after {seen:,} of {count:,} "
                             f"records\n{sender.last_words()}")
            time.sleep(0.05)


class Agent(Process):
    """kinetail in a directory of its own, which keeps its configuration, state and log.  `home` is
    that of an earlier one: then this one goes on where that one stopped."""

    def __init__(self, bench, sink, files, more="", home=None, top=""):
        self.home = home or pathlib.Path(tempfile.mkdtemp(prefix="agent-", dir=bench.work))
        (self.home / "state").mkdir(mode=0o700, exist_ok=True)
        config = self.home / "kinetail.conf"
        config.touch(mode=0o600)
        config.write_text(CONFIG.format(state_dir=self.home / "state", port=sink.port,
                                        files=files, more=more, top=top))
        self.log = self.home / "log"
        # Neither the caller's AWS account nor a proxy has any business here.
        environment = {k: v for k, v in os.environ.items()
                       if not k.startswith("AWS_") and not k.lower().endswith("_proxy")}
        with bench.cpus.on(bench.cpus.measured), open(self.log, "wb") as log:
            self.started_ns = time.monotonic_ns()
            super().__init__([bench.agent, "-c", str(config)], stderr=log, stdout=log,
                             env=environment)

    def last_words(self):
        lines = self.log.read_text(errors="replace").splitlines()[-10:]
        return "\n".join(f"  | {line}" for line in lines)

    def status(self, key):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise Failed(f"kinetail is gone\n{self.last_words()}")

    def wait_log(self, text, patience=STALL_SECONDS):
        """Until its log says so; gives the moment, to about a millisecond."""
        end = time.monotonic() + patience
        while text.encode() not in self.log.read_bytes():
            if self.poll() is not None or time.monotonic() > end:
                raise Failed(f"kinetail did not say '{text}' in {patience} s\n{self.last_words()}")
            time.sleep(0.001)
        return time.monotonic_ns()

    def rss_mib(self):
        return self.status("VmHWM") / 1024

    def own_bytes(self):
        """The memory that is its alone, now: neither its program nor its libraries."""
        return self.status("RssAnon") * 1024

    def descriptors(self):
        """How many it has open, connections apart: those come and go as they like."""
        count = 0
        for fd in pathlib.Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += not os.readlink(fd).startswith("socket:")
        return count

    def watches(self):
        """How many inodes its inotify watches."""
        count = 0
        for fd in pathlib.Path(f"/proc/{self.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += fd.read_text().count("inotify wd:")
        return count

    def state_bytes(self):
        """What its state directory takes."""
        return sum(at.stat().st_size for at in (self.home / "state").rglob("*") if at.is_file())

    def cpu_ns_and_wakeups(self):
        """Over all threads.  schedstat counts ns, where stat would count ticks of 10 ms."""
        cpu_ns = wakeups = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            cpu_ns += int((task / "schedstat").read_text().split()[0])
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    wakeups += int(line.split()[1])
        return cpu_ns, wakeups

    def stop(self):
        self.terminate()
        status = self.wait(EXIT_SECONDS)
        if status != 0:
            raise Failed(f"kinetail ended with {status} after SIGTERM\n{self.last_words()}")
