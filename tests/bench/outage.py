"""outage.py -- the part of the bench in which the service is gone for ten minutes.

A log is written at 5 MB/s in numbered lines of 200 bytes and rotated each 64 MB (roll.c); after a
while nobody can connect to the service any more (sink.c), and when it is back, the backlog is
drained while writing goes on.  This is told of two agents, one a minute behind the other:

  kept     rotated files stay: the files are the queue.
  deleted  three rotated files are kept and older ones deleted, and of deleted ones no more than
           256 MiB may be held (held_limit): what is beyond is rescued, and the spool is the queue.

Before, the same agent ships a file of such lines with nothing in its way: what a byte costs and how
fast it goes in the outage and when draining stands beside that.  Every line is compared where it
arrives, in the service; one that is lost, torn, or sent again beyond what was in flight when the
service went fails the run.

OUTAGE_S is the length of the outage in seconds (default 600, --quick 60); in a shorter one files
are rotated sooner and less is held, in proportion."""

import contextlib
import os
import pathlib
import subprocess
import threading
import time

from stage import Agent, Failed, Process, Sink, say

LINE_BYTES = 200
LINES_PER_SECOND = 25_000       # 5 MB/s
OUTAGE_SECONDS, QUICK_SECONDS = 600, 60
ROTATE_BYTES = 64_000_000       # in an outage of OUTAGE_SECONDS
HELD_BYTES = {"kept": 4 << 30, "deleted": 256 << 20}    # the same
KEEP = {"kept": 100_000, "deleted": 3}
SERVED_SECONDS = 10             # before the outage
STAGGER_SECONDS = 60
AFTER_SECONDS = 3               # of writing, when all is drained
DRAIN_SECONDS = 900             # patience
IN_FLIGHT_LINES = 4 * 500       # max_in_flight requests: what may be sent twice

TOP = 'spool = { limit = "4GiB"; };'


def megabytes(lines):
    return lines * LINE_BYTES / 1e6


class Roll(Process):
    """Writes lines until it is told to stop."""

    def __init__(self, bench, path, rotate_bytes, keep):
        self.path = path
        with bench.cpus.on(bench.cpus.others):
            super().__init__([bench.tool("roll"), str(path), str(LINES_PER_SECOND), str(LINE_BYTES),
                              str(rotate_bytes), str(keep)], stdout=subprocess.PIPE, text=True)

    def lines(self):
        """How many there are: what the last one says.  Just after a rotation there is none."""
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError, OSError), \
                    open(self.path, "rb") as file:
                whole = file.seek(0, os.SEEK_END) // LINE_BYTES
                file.seek((whole - 1) * LINE_BYTES)
                return int(file.read(LINE_BYTES).split()[0])
            if self.poll() is not None:
                raise Failed(f"roll ended with {self.poll()}")
            time.sleep(0.001)

    def stop(self):
        self.terminate()
        if self.wait(10) != 0:
            raise Failed("roll could not write")
        return int(self.popen.stdout.read().split()[1])


class Spent:
    """CPU seconds and wake-ups of an agent, since."""

    def __init__(self, agent):
        self.agent = agent
        self.at = agent.cpu_ns_and_wakeups()
        self.began = time.monotonic()

    def get(self):
        cpu_ns, wakeups = self.agent.cpu_ns_and_wakeups()
        seconds = time.monotonic() - self.began
        return (cpu_ns - self.at[0]) / 1e9, (wakeups - self.at[1]) / seconds


class Story:
    """One agent, its writer and its service."""

    def __init__(self, outage, name, delay):
        self.outage, self.name, self.delay = outage, name, delay
        self.bench = outage.bench
        share = min(1, outage.seconds / OUTAGE_SECONDS)
        self.rotate_bytes = int(ROTATE_BYTES * share)
        self.flow = f"held_limit = {int(HELD_BYTES[name] * share)}L;"
        self.failure = None
        self.spool_peak = self.held_peak = 0

    def sleep(self, seconds):
        if self.outage.over.wait(seconds):
            raise Failed("interrupted")

    def look(self, agent):
        """What it holds on disk, now and at most."""
        spool = held = 0
        for at in (agent.home / "state" / "spool").rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                spool += at.stat().st_blocks * 512
        for fd in pathlib.Path(f"/proc/{agent.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(fd).endswith(" (deleted)"):
                    held += fd.stat().st_size
        self.spool_peak = max(self.spool_peak, spool)
        self.held_peak = max(self.held_peak, held)

    def watch(self, agent, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look(agent)
            self.sleep(min(0.5, max(0, end - time.monotonic())))
            if agent.poll() is not None:
                raise Failed(f"kinetail ended with {agent.poll()}\n{agent.last_words()}")

    def drain(self, sink, agent, roll):
        """Until what is missing is less than what is written in a second."""
        began = time.monotonic()
        first_s, before, seen, moved = None, sink.stats()["distinct"], -1, began
        sink.ask("POST", "/up")
        while True:
            came, now = sink.stats()["distinct"], time.monotonic()
            if first_s is None and came > before:
                first_s = now - began
            if roll.lines() - came < LINES_PER_SECOND:
                return first_s, now - began, came - before
            if came != seen:
                seen, moved = came, now
            if agent.poll() is not None or now - moved > 120 or now - began > DRAIN_SECONDS:
                raise Failed(f"{came:,} of {roll.lines():,} lines came\n{agent.last_words()}")
            self.look(agent)
            self.sleep(0.1)

    def play(self):
        self.sleep(self.delay)
        top = self.bench.work / f"outage-{self.name}"
        top.mkdir()
        log = top / "app.log"
        with Sink(self.bench, "--lines", str(LINE_BYTES)) as sink, \
                Roll(self.bench, log, self.rotate_bytes, KEEP[self.name]) as roll, \
                Agent(self.bench, sink, log, self.flow, top=TOP) as agent:
            self.sleep(SERVED_SECONDS)
            self.rss_before = agent.rss_mib()
            written = roll.lines()
            if written - sink.stats()["distinct"] > LINES_PER_SECOND:
                raise Failed("it does not keep up while the service is there")
            sink.ask("POST", "/down")
            spent = Spent(agent)
            self.watch(agent, self.outage.seconds)
            self.out_lines = roll.lines() - written
            self.out_cpu, self.out_wakeups = spent.get()
            spent = Spent(agent)
            self.first_s, self.drain_s, self.drain_lines = self.drain(sink, agent, roll)
            self.drain_cpu, _ = spent.get()
            self.watch(agent, AFTER_SECONDS)
            self.lines = roll.stop()
            stats = sink.wait_for(self.lines, agent, "distinct", enough=True)
            self.rss = agent.rss_mib()
            agent.stop()
            stats = sink.stats()
            self.lost = self.lines - stats["distinct"]
            self.twice, self.torn = stats["repeated"], stats["torn"] + stats["unnumbered"]
            if self.lost or self.torn or self.twice > IN_FLIGHT_LINES:
                raise Failed(f"{self.lost:,} lines lost, {self.twice:,} sent twice, {self.torn:,} "
                             f"torn, of {self.lines:,}\n{agent.last_words()}")

    def run(self):
        try:
            self.play()
        except (Failed, OSError, ValueError) as error:
            self.failure = str(error)


class Outage:
    def __init__(self, bench):
        self.bench = bench
        seconds = QUICK_SECONDS if bench.options.quick else OUTAGE_SECONDS
        self.seconds = float(os.environ.get("OUTAGE_S", seconds))
        self.over = threading.Event()

    def parts(self):
        return [("outage", self.outage)]

    def plain(self):
        """MB/s and CPU seconds per GB of a file with nothing in its way."""
        path, lines = self.bench.work / "plain.log", self.bench.options.size // LINE_BYTES
        self.bench.run_tool("roll", path, 0, LINE_BYTES, 0, 1, lines)
        with Sink(self.bench, "--lines", str(LINE_BYTES)) as sink, \
                Agent(self.bench, sink, path) as agent:
            sink.wait_for(lines, agent, "distinct")
            took_s = (sink.stats()["last_ns"] - agent.started_ns) / 1e9
            agent.stop()
        path.unlink()
        cpu = agent.rusage.ru_utime + agent.rusage.ru_stime
        return megabytes(lines) / took_s, cpu * 1e3 / megabytes(lines)

    def outage(self):
        say("outage, a file with nothing in its way")
        plain_mb, plain_cpu = self.plain()
        stagger = min(STAGGER_SECONDS, self.seconds / 3)
        stories = [Story(self, name, i * stagger) for i, name in enumerate(KEEP)]
        say(f"outage of {self.seconds:.0f} s")
        threads = [threading.Thread(target=story.run) for story in stories]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            self.over.set()
            for thread in threads:
                thread.join()
        self.bench.row("outage: a file with nothing in its way, MB/s", f"{plain_mb:.0f}")
        self.bench.row("  CPU seconds per GB", f"{plain_cpu:.2f}")
        for story in stories:
            if story.failure is not None:
                self.bench.failures.append(f"outage, files {story.name}: {story.failure}")
            if hasattr(story, "lost"):
                self.rows(story, plain_mb, plain_cpu)

    def rows(self, story, plain_mb, plain_cpu):
        row = self.bench.row
        mb_s = megabytes(story.drain_lines) / story.drain_s
        after_first = megabytes(story.drain_lines) / max(0.1, story.drain_s - (story.first_s or 0))
        out_cpu = story.out_cpu * 1e3 / megabytes(story.out_lines)
        drain_cpu = story.drain_cpu * 1e3 / megabytes(story.drain_lines)
        row(f"outage of {self.seconds:.0f} s, files {story.name}: MB written meanwhile",
            f"{megabytes(story.out_lines):,.0f}")
        row("  lost / sent twice / torn",
            f"{story.lost:,} / {story.twice:,} / {story.torn:,}", "",
            f"0 / <= {IN_FLIGHT_LINES:,} / 0",
            not story.lost and not story.torn and story.twice <= IN_FLIGHT_LINES)
        row("  drained after s, while writing went on", f"{story.drain_s:.1f}")
        row("    of which until the first answer", f"{story.first_s:.1f}")
        row("  drained at MB/s, and from the first answer on", f"{mb_s:.0f}, {after_first:.0f}")
        row("    share of a plain file's rate", f"{after_first / plain_mb:.2f}")
        row("  peak RSS, MiB, and before the outage", f"{story.rss:.1f}, {story.rss_before:.1f}")
        row("  disk of the spool at its peak, MB", f"{story.spool_peak / 1e6:,.0f}")
        row("  of deleted files held at their peak, MB", f"{story.held_peak / 1e6:,.0f}")
        row("  CPU seconds per GB, in the outage", f"{out_cpu:.2f}")
        row("    share of a plain file's, wake-ups/s",
            f"{out_cpu / plain_cpu:.2f}, {story.out_wakeups:.1f}")
        row("  CPU seconds per GB, draining", f"{drain_cpu:.2f}")
        row("    share of a plain file's", f"{drain_cpu / plain_cpu:.2f}")
