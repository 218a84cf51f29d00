#!/usr/bin/env python3
"""bench.py -- what `make bench` runs: how little kinetail costs, beside the least that is possible.

Everything is measured in one run against the sink (sink.c), a Kinesis that only counts:

  throughput  a file of 200-byte lines is shipped by the floor (floor.c) and by kinetail in turns,
              several rounds; the table shows medians.  Each round of kinetail is a whole life of
              the agent, from its start to its exit after SIGTERM.
  latency     1,000 lines/s, each stamped when it is appended (pace.c), linger = "10ms"; the sink
              takes the time when the whole request has arrived.
  idle        CPU time and wake-ups with quiet files that have been read to their end.
  shape, json, evil
              what lines become: see records.py.
  outage      the service is gone for ten minutes: see outage.py.
  spool       what the spool alone costs: see spool.c.
  scale       many files: see scale.py.

Timings are printed beside their aims and never fail the run: the machine may be busy.  Exit
status 1 means that lines were lost or sent twice, or that something crashed; 2 means wrong usage.
"""

import argparse
import http.client
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from outage import Outage
from records import RECORDS_PARTS, Records
from scale import SCALE_PARTS, Scale
from stage import Agent, Cpus, Failed, Sink, plural, say

ROOT = pathlib.Path(__file__).resolve().parents[2]

LINE_BYTES = 200
LATENCY_LINES_PER_SECOND = 1000
LATENCY_LINGER = "10ms"
IDLE_FILES = (1, 1000, 10000)
IDLE_FILES_PER_DIR = 1000
IDLE_SETTLE_SECONDS = 3     # the last checkpoint is committed about a second after the last answer

AIM_CPU_RATIO = 1.6
AIM_RSS_MIB = 24
AIM_P99_MS = 15
AIM_IDLE_PERCENT = 0.1

PROGRAMS = ("sink", "floor", "mill", "pace", "roll", "spool")
PARTS = ("throughput", "latency", "idle", *RECORDS_PARTS, "spool", "outage", *SCALE_PARTS)


class Bench:
    def __init__(self, options, work):
        self.options = options
        self.work = work
        self.agent = str(options.agent)
        self.cpus = Cpus()
        self.rows = []
        self.tables = []        # text that goes below the rows
        self.failures = []

    def tool(self, name):
        return str(self.options.bin / name)

    def row(self, figure, value, floor="", aim="", reached=None):
        verdict = {True: "reached", False: "missed", None: ""}[reached]
        self.rows.append((figure, floor, value, aim, verdict))

    def check_count(self, what, counted, written):
        if counted != written:
            self.failures.append(f"{what}: {written:,} lines written, {counted:,} records came")

    def run_tool(self, name, *args):
        """A tool's `name value` lines, as a dictionary of numbers."""
        cpus = self.cpus.measured if name == "floor" else self.cpus.others
        with self.cpus.on(cpus):
            done = subprocess.run([self.tool(name), *map(str, args)], stdout=subprocess.PIPE,
                                  text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"{name} ended with {done.returncode}")
        return {k: float(v) for k, v in map(str.split, done.stdout.splitlines())}

    # throughput

    def write_lines(self, path):
        """Lines that look like a log; a block of them over and over: only its size matters here."""
        rng = random.Random(1)
        block = b"".join(
            b"2026-11-21T07:35:%02d.%06dZ 10.0.%d.%d GET /item/%d 200 %s\n" % (
                i % 60, rng.randrange(10 ** 6), rng.randrange(256), rng.randrange(256),
                10 ** 6 + rng.randrange(10 ** 6), b"%0150x" % rng.getrandbits(600))
            for i in range(5000))
        lines = [line[:LINE_BYTES - 1] + b"\n" for line in block.splitlines()]
        lines = [line[:-1].ljust(LINE_BYTES - 1, b".") + b"\n" for line in lines]
        count = self.options.size // LINE_BYTES
        with open(path, "wb") as file:
            whole, rest = divmod(count, len(lines))
            block = b"".join(lines)
            for _ in range(whole):
                file.write(block)
            file.write(b"".join(lines[:rest]))
            file.flush()
            os.fsync(file.fileno())     # so that nobody pays for writing it out later
        return count

    def round_floor(self, sink, path, lines):
        sink.reset()
        figures = self.run_tool("floor", path, sink.port)
        self.check_count("floor", sink.stats()["records"], lines)
        return figures["wall_mb_per_s"], figures["cpu_seconds_per_gb"]

    def round_agent(self, sink, path, lines):
        sink.reset()
        started_ns = time.monotonic_ns()
        with Agent(self, sink, path) as agent:
            sink.wait_for(lines, agent)
            rss_mib = agent.rss_mib()
            agent.stop()
        stats = sink.stats()
        self.check_count("throughput", stats["records"], lines)
        size = lines * LINE_BYTES
        cpu = agent.rusage.ru_utime + agent.rusage.ru_stime
        return (size * 1e3 / (stats["last_ns"] - started_ns), cpu * 1e9 / size, rss_mib,
                stats["records"] / stats["requests"])

    def throughput(self):
        path = self.work / "throughput.log"
        say(f"writing {self.options.size >> 20} MiB")
        lines = self.write_lines(path)
        with Sink(self) as sink:
            say("floor, stage by stage")
            stages = self.run_tool("floor", "--stages", path, sink.port)
            floors, agents = [], []
            for i in range(self.options.rounds):
                say(f"round {i + 1} of {self.options.rounds}: floor, then kinetail")
                floors.append(self.round_floor(sink, path, lines))
                agents.append(self.round_agent(sink, path, lines))
        path.unlink()

        floor_mb, floor_cpu = map(statistics.median, zip(*floors))
        mb, cpu, rss, per_request = map(statistics.median, zip(*agents))
        self.row("throughput, MB/s", f"{mb:.0f}", f"{floor_mb:.0f}")
        self.row("CPU seconds per GB", f"{cpu:.2f}", f"{floor_cpu:.2f}")
        self.row("  lowest and highest", spread(agents, 1), spread(floors, 1))
        self.row("CPU, kinetail / floor", f"{cpu / floor_cpu:.2f}", "1", f"<= {AIM_CPU_RATIO}",
                 cpu / floor_cpu <= AIM_CPU_RATIO)
        self.row("peak RSS, MiB", f"{rss:.1f}", "", f"< {AIM_RSS_MIB}", rss < AIM_RSS_MIB)
        self.row("records per request", f"{per_request:.0f}", "500")
        for stage in ("read", "memchr", "base64_framing", "sha256", "send"):
            self.row(f"  ns per byte: {'+ ' if stage != 'read' else ''}{stage}".replace("_", ", "),
                     "", f"{stages[stage + '_ns_per_byte']:.2f}")

    # latency

    def latency(self):
        path = self.work / "latency.log"
        path.write_bytes(b"the first line says that the file is followed\n")
        seconds = self.options.latency_seconds
        say(f"latency, {seconds} s")
        with Sink(self, "--stamp") as sink:
            more = f'batch = {{ linger = "{LATENCY_LINGER}"; }};'
            with Agent(self, sink, path, more) as agent:
                sink.wait_for(1, agent)
                time.sleep(0.5)
                sink.reset()
                paced = self.run_tool("pace", path, LATENCY_LINES_PER_SECOND, seconds, LINE_BYTES)
                sink.wait_for(int(paced["lines"]), agent)
                agent.stop()
            stats = sink.stats()
        self.check_count("latency", stats["records"], int(paced["lines"]))
        self.check_count("latency, whole lines", stats["stamped"], int(paced["lines"]))
        p99_ms = stats["p99_us"] / 1000
        self.row("append to request, p50 ms", f"{stats['p50_us'] / 1000:.2f}")
        self.row("append to request, p99 ms", f"{p99_ms:.2f}", "", f"< {AIM_P99_MS}",
                 p99_ms < AIM_P99_MS)
        self.row("append to request, max ms", f"{stats['max_us'] / 1000:.2f}")
        self.row("  the writer's worst delay, ms", f"{paced['worst_delay_us'] / 1000:.2f}")

    # idle

    def idle_files(self, count):
        top = self.work / f"idle-{count}"
        for i in range(count):
            if i % IDLE_FILES_PER_DIR == 0:
                at = top / f"{i // IDLE_FILES_PER_DIR:03}"
                at.mkdir(parents=True)
            (at / f"{i:05}.log").write_bytes(b"%05d " % i + b"." * (LINE_BYTES - 7) + b"\n")
        return top

    def idle_one(self, count):
        top = self.idle_files(count)
        seconds = self.options.idle_seconds
        say(f"idle, {plural(count)}, {seconds} s")
        with Sink(self) as sink, Agent(self, sink, f"{top}/*/*.log") as agent:
            sink.wait_for(count, agent)
            time.sleep(IDLE_SETTLE_SECONDS)
            cpu_ns, wakeups = agent.cpu_ns_and_wakeups()
            started_ns = time.monotonic_ns()
            time.sleep(seconds)
            took_ns = time.monotonic_ns() - started_ns
            cpu_after_ns, wakeups_after = agent.cpu_ns_and_wakeups()
            rss_mib = agent.rss_mib()
            agent.stop()
            self.check_count(f"idle, {plural(count)}", sink.stats()["records"], count)
        shutil.rmtree(top)
        percent = (cpu_after_ns - cpu_ns) * 100 / took_ns
        self.row(f"idle CPU, {plural(count)}, %", f"{percent:.4f}", "", f"< {AIM_IDLE_PERCENT}",
                 percent < AIM_IDLE_PERCENT)
        self.row("  wake-ups per second", f"{(wakeups_after - wakeups) * 1e9 / took_ns:.2f}")
        self.row("  peak RSS, MiB", f"{rss_mib:.1f}", "", f"< {AIM_RSS_MIB}",
                 rss_mib < AIM_RSS_MIB)

    def idle(self):
        for count in IDLE_FILES:
            self.idle_one(count)

    # spool

    def spool(self):
        say("spool")
        top = self.work / "spool"
        top.mkdir()
        with self.cpus.on(self.cpus.measured):
            done = subprocess.run([self.tool("spool"), top, "50" if self.options.quick else "300"],
                                  stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"spool ended with {done.returncode}")
        self.tables.append("the spool, frames of 1 MiB:\n" + done.stdout)

    # all

    def run(self):
        os.sched_setaffinity(0, self.cpus.others)
        parts = [(name, getattr(self, name)) for name in ("throughput", "latency", "idle")]
        parts += Records(self).parts() + [("spool", self.spool)]
        parts += Outage(self).parts() + Scale(self).parts()
        for name, play in parts:
            if set(self.options.parts) & set(name.split("+")):
                try:
                    play()
                except (Failed, OSError, http.client.HTTPException) as error:
                    self.failures.append(f"{name}: {error}")

    def report(self, load):
        options = self.options
        print(f"kinetail bench: {options.size >> 20} MiB of {LINE_BYTES}-byte lines, "
              f"{options.rounds} rounds (medians), load average {load:.2f} at the start")
        print(f"{self.cpus.describe()}")
        print("floor: read + memchr + base64 + SHA-256 + loopback send, one request at a time\n")
        table = [("", "floor", "kinetail", "aim", ""), *self.rows]
        widths = [max(len(row[i]) for row in table) for i in range(5)]
        for i, row in enumerate(table):
            print(f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  "
                  f"{row[3]:>{widths[3]}}  {row[4]}".rstrip())
            if i == 0:
                print("-" * (sum(widths) + 8))
        print()
        for text in self.tables:
            print(text)
        for failure in self.failures:
            print(f"FAILED {failure}")
        if not self.failures:
            print("nothing lost, nothing sent twice")


def spread(rounds, column):
    values = [figures[column] for figures in rounds]
    return f"{min(values):.2f}..{max(values):.2f}"


def size_of(text):
    units = {"K": 10, "M": 20, "G": 30}
    number, unit = (text[:-1], text[-1]) if text[-1:].upper() in units else (text, None)
    size = int(number) << (units[unit.upper()] if unit else 0)
    if size < LINE_BYTES:
        raise ValueError
    return size


def options_read():
    parser = argparse.ArgumentParser(description="what kinetail costs, beside the least possible")
    parser.add_argument("parts", nargs="*", metavar="PART",
                        help=f"{', '.join(PARTS)}; or scale: the last {len(SCALE_PARTS)} of them "
                             "(default: all)")
    parser.add_argument("--quick", action="store_true",
                        help="64 MiB, 3 s of latency, 5 s of idling, a tenth of the files")
    parser.add_argument("--size", type=size_of, metavar="BYTES",
                        help="of the throughput file, with K, M or G (default 1G)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--agent", type=pathlib.Path, default=ROOT / "kinetail")
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "build" / "bench",
                        help="where sink, floor and pace are")
    parser.add_argument("--dir", help="for the temporary files (default: the system's)")
    options = parser.parse_args()
    options.size = options.size or size_of("64M" if options.quick else "1G")
    options.latency_seconds = 3 if options.quick else 10
    options.idle_seconds = 5 if options.quick else 30
    for part in options.parts:
        if part not in (*PARTS, "scale"):
            parser.error(f"no part '{part}'")
    if not options.parts:
        options.parts = list(PARTS)
    elif "scale" in options.parts:
        options.parts += SCALE_PARTS
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    for program in (options.agent, *(options.bin / name for name in PROGRAMS)):
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is not there; `make bench` builds it")
    options.agent = options.agent.resolve()
    return options


def main():
    options = options_read()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="kinetail-bench-", dir=options.dir) as work:
        bench = Bench(options, pathlib.Path(work))
        bench.run()
    bench.report(load)
    return 1 if bench.failures else 0


if __name__ == "__main__":
    # SIGTERM unwinds like ^C, so that nothing we started or wrote is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
