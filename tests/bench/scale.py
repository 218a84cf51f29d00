"""scale.py -- the parts of the bench with many files.

  start    a checkpoint of 100,000 quiet files (300 bytes each, 1,000 in a directory): from exec to
           "following", and to the arrival of a line that was written before the start.
  active   50 of the 100,000 files get 20 lines a second each: CPU time of that agent beside one
           that follows just these 50, in the same minute.
  quiet    CPU time and wake-ups of that agent when nothing happens, up to 380 s after its start:
           it glances at everything every minute, but with so many files every six minutes, and
           that is what idling costs: one glance must be among it.  And memory per quiet file: its own memory, minus that of an
           agent with 1,000 of these files.
  burst    10,000 files of one line are created at once in one directory.
  storm    1,000 rotations a second, one line per file: "unique" renames app.log to a name that
           stays, "shift" keeps five generations, so that a file is deleted 5 ms after its only line
           was written and what nobody opened in time is lost.  Then 90 s of quiet, and what is
           left of it all.  Then half as long a storm: what was only kept, and not leaked, is used
           again, and the peak stays where it was.

The page cache is warm in all of them.  Lines are numbered, so the sink (sink.c --numbered) tells
lost from sent twice."""

import contextlib
import os
import shutil
import time

from stage import Agent, Sink, plural, say

SCALE_PARTS = ("start", "active", "quiet", "burst", "storm")

FILE_BYTES = 300
FILES_PER_DIR = 1000
ACTIVE_LINES_PER_SECOND = 20        # in each file
ROTATIONS_PER_SECOND = 1000
GENERATIONS = 5
START_PATIENCE_SECONDS = 300
BURST_PATIENCE_SECONDS = 30         # nothing came for so long: nothing more will
SETTLE_SECONDS = 3                  # the last checkpoint is committed within these

AIM_START_S = 2
AIM_IDLE_PERCENT = 0.2
AIM_BYTES_PER_FILE = 400

LINGER = 'batch = { linger = "10ms"; };'


def line(number, size=FILE_BYTES):
    return (b"%d " % number).ljust(size - 1, b".") + b"\n"


def append(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    os.write(fd, data)
    os.close(fd)


def paced(count, per_second):
    """0 … count - 1, each at its moment; what is late comes at once."""
    start = time.monotonic()
    for i in range(count):
        left = start + i / per_second - time.monotonic()
        if left > 0:
            time.sleep(left)
        yield i


class Usage:
    """What an agent spends from now on."""

    def __init__(self, agent):
        self.agent = agent
        self.cpu_ns, self.wakeups = agent.cpu_ns_and_wakeups()
        self.since_ns = time.monotonic_ns()

    def spent(self):
        """CPU in percent, wake-ups per second."""
        cpu_ns, wakeups = self.agent.cpu_ns_and_wakeups()
        took_ns = time.monotonic_ns() - self.since_ns
        return (cpu_ns - self.cpu_ns) * 100 / took_ns, (wakeups - self.wakeups) * 1e9 / took_ns


class Scale:
    def __init__(self, bench):
        self.bench = bench
        quick = bench.options.quick
        self.files = 10_000 if quick else 100_000
        self.few = FILES_PER_DIR
        self.active_files = 5 if quick else 50
        self.quiet_seconds = 5 if quick else 150    # at least …
        self.quiet_until_seconds = 0 if quick else 380      # … and since the agent's start
        self.active_seconds = 5 if quick else 60
        self.burst_files = 1000 if quick else 10_000
        self.storm_seconds = 3 if quick else 20
        self.aftermath_seconds = 5 if quick else 90
        self.number = 0

    def parts(self):
        """Names, joined by + where they share what they need, and what to call."""
        return [("start+active+quiet", self.quiet_files), ("burst", self.burst),
                ("storm", self.storms)]

    def wants(self, part):
        return part in self.bench.options.parts

    def row(self, *columns, **more):
        self.bench.row(*columns, **more)

    def next_line(self, size=FILE_BYTES):
        self.number += 1
        return line(self.number, size)

    def judge(self, what, stats, written, may_lose=False):
        """Complains of what was lost or sent twice; gives both for the table."""
        lost, repeated = written - stats["distinct"], stats["repeated"]
        if (lost and not may_lose) or repeated or stats["unnumbered"]:
            self.bench.failures.append(f"{what}: of {written:,} lines {lost:,} were lost, "
                                       f"{repeated:,} were sent again"
                                       + (f"; the first lost is number {stats['missing']}"
                                          if stats["missing"] else ""))
        return f"{lost:,} / {repeated:,}"

    # start, quiet, active

    def tree(self):
        """The quiet files; in each of the first directories one is called active.log."""
        top = self.bench.work / "tree"
        say(f"writing {plural(self.files)}")
        for i in range(self.files):
            at = top / f"{i // FILES_PER_DIR:03}"
            if i % FILES_PER_DIR == 0:
                at.mkdir(parents=True)
            active = i % FILES_PER_DIR == 0 and i // FILES_PER_DIR < self.active_files
            append(at / ("active.log" if active else f"{i:06}.log"), self.next_line())
        return top

    def first_run(self, sink, glob, count):
        """Reads everything once, so that it is in the checkpoint; gives the agent's home."""
        say(f"first run, {plural(count)}")
        with Agent(self.bench, sink, glob, LINGER) as agent:
            came = sink.wait_for(count, agent, "distinct")
            took_s = (came["last_ns"] - agent.started_ns) / 1e9
            time.sleep(SETTLE_SECONDS)
            agent.stop()
        self.judge(f"first run, {plural(count)}", sink.stats(), count)
        sink.reset()
        return agent, took_s

    def second_run(self, sink, earlier, glob, news):
        """Starts where the first run stopped, with one new line in the file `news`."""
        append(news, self.next_line())
        return Agent(self.bench, sink, glob, LINGER, home=earlier.home)

    def quiet_files(self):
        top = self.tree()
        last = sorted(top.iterdir())[-1]        # nothing is active in it
        everything, few = f"{top}/*/*.log", f"{last}/*.log"
        with contextlib.ExitStack() as stack:
            sink = stack.enter_context(Sink(self.bench, "--numbered"))
            earlier, first_s = self.first_run(sink, everything, self.files)
            say(f"start, {plural(self.files)}")
            agent = stack.enter_context(
                self.second_run(sink, earlier, everything, top / "000" / "000001.log"))
            following_s = (agent.wait_log(": following ", START_PATIENCE_SECONDS) -
                           agent.started_ns) / 1e9
            came = sink.wait_for(1, agent)
            line_s = (came["last_ns"] - agent.started_ns) / 1e9
            if self.wants("start"):
                what = plural(self.files)
                self.row(f"start with {what} known, s", f"{following_s:.2f}", "",
                         f"< {AIM_START_S}", following_s < AIM_START_S)
                self.row("  to the first new line, s", f"{line_s:.2f}")
                self.row(f"  first start ever, {what} sent, s", f"{first_s:.2f}")
                self.row("  peak RSS of both starts, MiB",
                         f"{earlier.rusage.ru_maxrss / 1024:.1f}, {agent.rss_mib():.1f}")
                self.row("  state on disk, bytes per file",
                         f"{agent.state_bytes() / self.files:.0f}")
            time.sleep(SETTLE_SECONDS)
            self.judge(f"second run, {plural(self.files)}", sink.stats(), 1)
            if self.wants("active"):
                self.active(agent, sink, top)
            if self.wants("quiet"):
                sink.reset()
                self.quiet(agent, few, next(last.iterdir()))
                self.judge("quiet", sink.stats(), 1)
            agent.stop()
        shutil.rmtree(top)

    def quiet(self, agent, glob, news):
        with Sink(self.bench, "--numbered") as sink:
            earlier, _ = self.first_run(sink, glob, self.few)
            with self.second_run(sink, earlier, glob, news) as small:
                sink.wait_for(1, small)
                time.sleep(SETTLE_SECONDS)
                lived = (time.monotonic_ns() - agent.started_ns) / 1e9
                seconds = max(self.quiet_seconds, self.quiet_until_seconds - lived)
                say(f"quiet, {plural(self.files)}, {seconds:.0f} s")
                usage, small_usage = Usage(agent), Usage(small)
                time.sleep(seconds)
                percent, wakeups = usage.spent()
                small_percent, small_wakeups = small_usage.spent()
                own, small_own = agent.own_bytes(), small.own_bytes()
                opened = agent.descriptors()
                small.stop()
            self.judge(f"quiet, {plural(self.few)}", sink.stats(), 1)
        each = (own - small_own) / (self.files - self.few)
        self.row(f"idle CPU, {plural(self.files)}, in {seconds:.0f} s, %", f"{percent:.4f}", "",
                 f"< {AIM_IDLE_PERCENT}", percent < AIM_IDLE_PERCENT)
        self.row("  wake-ups per second", f"{wakeups:.2f}")
        self.row(f"  with {plural(self.few)}, %, wake-ups",
                 f"{small_percent:.4f}, {small_wakeups:.2f}")
        self.row("memory per quiet file, bytes", f"{each:.0f}", "", f"< {AIM_BYTES_PER_FILE}",
                 each < AIM_BYTES_PER_FILE)
        self.row("  descriptors open while quiet", f"{opened:,}")
        self.row(f"  all of it, {plural(self.files)} and {self.few:,}, MiB",
                 f"{own / 2 ** 20:.1f}, {small_own / 2 ** 20:.1f}")

    def active(self, agent, sink, top):
        files = sorted(top.glob("*/active.log"))
        rate = ACTIVE_LINES_PER_SECOND * len(files)
        with Sink(self.bench, "--numbered") as alone_sink, \
                Agent(self.bench, alone_sink, f"{top}/*/active.log", LINGER) as alone:
            alone_sink.wait_for(len(files), alone)
            time.sleep(SETTLE_SECONDS)
            alone_sink.reset()
            sink.reset()
            say(f"active, {len(files)} of {plural(self.files)}, {self.active_seconds} s")
            fds = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC) for path in files]
            usage, alone_usage = Usage(agent), Usage(alone)
            lines = rate * self.active_seconds
            for i in paced(lines, rate):
                os.write(fds[i % len(fds)], self.next_line(200))
            (percent, _), (alone_percent, _) = usage.spent(), alone_usage.spent()
            for fd in fds:
                os.close(fd)
            self.judge("active", sink.wait_for(lines, agent, "distinct"), lines)
            self.judge("active, alone", alone_sink.wait_for(lines, alone, "distinct"), lines)
            alone.stop()
        self.row(f"{len(files)} active of {self.files:,}, {rate:,} lines/s, CPU %",
                 f"{percent:.2f}")
        self.row("  the same ones alone, CPU %", f"{alone_percent:.2f}")
        self.row("  ratio", f"{percent / alone_percent:.2f}")

    # burst

    def burst(self):
        top = self.bench.work / "burst"
        top.mkdir()
        append(top / "first.log", self.next_line())
        with Sink(self.bench, "--numbered") as sink, \
                Agent(self.bench, sink, f"{top}/*.log", LINGER) as agent:
            sink.wait_for(1, agent)
            time.sleep(SETTLE_SECONDS)
            sink.reset()
            say(f"burst, {plural(self.burst_files)}")
            started_ns = time.monotonic_ns()
            for i in range(self.burst_files):
                append(top / f"{i:05}.log", self.next_line(200))
            created_ns = time.monotonic_ns()
            stats = sink.wait_for(self.burst_files, agent, "distinct", BURST_PATIENCE_SECONDS,
                                  enough=True)
            rss_mib = agent.rss_mib()
            agent.stop()
            stats = sink.stats()
        lost = self.judge("burst", stats, self.burst_files)
        self.row(f"burst of {plural(self.burst_files)}, all lines there after s",
                 f"{(stats['last_ns'] - started_ns) / 1e9:.2f}")
        self.row("  creating them took, s", f"{(created_ns - started_ns) / 1e9:.2f}")
        self.row("  lost / sent twice", lost, "", "0 / 0", lost == "0 / 0")
        self.row("  peak RSS, MiB", f"{rss_mib:.1f}")
        shutil.rmtree(top)

    # storm

    def rotate_unique(self, log, i):
        os.rename(log, f"{log}.{i}")
        append(log, self.next_line(200))

    def rotate_shift(self, log, _):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{log}.{GENERATIONS}")
        for n in range(GENERATIONS - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{log}.{n}", f"{log}.{n + 1}")
        os.rename(log, f"{log}.1")
        append(log, self.next_line(200))

    @staticmethod
    def rotations(log, rotate, which):
        for i in paced(len(which), ROTATIONS_PER_SECOND):
            rotate(log, which[i])

    def storms(self):
        """One after the other, and then the quiet for both."""
        storms = [self.storm("unique", self.rotate_unique), self.storm("shift", self.rotate_shift)]
        for one in storms:
            next(one)
        say(f"storms, {self.aftermath_seconds} s of quiet")
        time.sleep(self.aftermath_seconds)
        for one in storms:
            next(one, None)

    def storm(self, name, rotate):
        """A storm; and when the caller, who is given nothing, goes on: what is left of it."""
        top = self.bench.work / f"storm-{name}"
        top.mkdir()
        log = f"{top}/app.log"
        append(log, self.next_line(200))
        with Sink(self.bench, "--numbered") as sink, \
                Agent(self.bench, sink, log, LINGER) as agent:
            sink.wait_for(1, agent)
            time.sleep(SETTLE_SECONDS)
            sink.reset()
            before = (agent.descriptors(), agent.watches(), agent.own_bytes())
            say(f"storm, {name}, {self.storm_seconds} s")
            usage = Usage(agent)
            rotations = self.storm_seconds * ROTATIONS_PER_SECOND
            started = time.monotonic()
            self.rotations(log, rotate, range(rotations))
            per_second = rotations / (time.monotonic() - started)
            during = agent.descriptors()
            percent, _ = usage.spent()
            sink.wait_for(rotations, agent, "distinct", 10, enough=True)
            yield
            after = (agent.descriptors(), agent.watches(), agent.own_bytes())
            rss_mib = agent.rss_mib()
            state = agent.state_bytes()
            stats = sink.stats()
            late_s = stats["last_ns"] / 1e9 - started - rotations / per_second
            say(f"storm, {name}, once more")
            self.rotations(log, rotate, range(rotations, rotations * 3 // 2))
            again_mib = agent.rss_mib()
            agent.stop()
        may_lose = name == "shift"
        lost = self.judge(f"storm, {name}", stats, rotations, may_lose)
        self.row(f"storm, {name}: {rotations:,} rotations at {per_second:,.0f}/s, CPU %",
                 f"{percent:.1f}")
        self.row("  lost / sent twice", lost, "", "- / 0" if may_lose else "0 / 0",
                 lost == "0 / 0" if not may_lose else lost.endswith(" / 0"))
        self.row("  last line there s after the storm", f"{late_s:.2f}")
        self.row("  peak RSS, and with the second storm, MiB", f"{rss_mib:.1f}, {again_mib:.1f}")
        self.row("  descriptors before, at its end, now",
                 f"{before[0]}, {during}, {after[0]}", "", "as before", after[0] <= before[0])
        self.row("  watches before, now", f"{before[1]}, {after[1]}", "", "as before",
                 after[1] <= before[1])
        self.row("  own memory before, now, MiB",
                 f"{before[2] / 2 ** 20:.2f}, {after[2] / 2 ** 20:.2f}")
        self.row("  state on disk, KiB", f"{state / 1024:.0f}")
        shutil.rmtree(top)
