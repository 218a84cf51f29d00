"""records.py -- the parts of the bench about what lines become.

  shape  every format and every step of shaping beside plain PCRE2-JIT matching of the same lines:
         see mill.c, whose table is printed as it is.
  json   a file of access log lines is shipped as it stands, and parsed into JSON, and by the floor,
         in turns.  The records of JSON are half as long again as the lines: encoding, hashing and
         sending them is in the figures.
  evil   two flows in one agent.  One has a pattern that explodes and a file full of lines for which
         it does, more than can be read while we measure; the other has ordinary lines, first a
         backlog and then 1,000 a second.  Both are measured with that neighbour and without, in
         turns: a flow has to keep its rate whatever its neighbour does."""

import os
import random
import statistics
import subprocess
import time

from stage import Agent, Failed, Sink, say

RECORDS_PARTS = ("shape", "json", "evil")

LINE_BYTES = 200            # of the ordinary flow
EVIL_PATTERN = "^(a|aa)+$"
EVIL_LINE = b"a" * 98 + b"!\n"
EVIL_LINES = 1_000_000      # at 2 ms each, half an hour
EVIL_ROUNDS = 3
PACED_LINES_PER_SECOND = 1000
SETTLE_SECONDS = 1

AIM_JSON_SHARE = 0.5
AIM_EVIL_SHARE = 0.9

LINGER = 'batch = { linger = "10ms"; };'


def access_lines():
    """Lines of an access log, as many browsers and crawlers make them; 188 bytes on average."""
    rng = random.Random(1)
    agents = [b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
              b"Chrome/118.0.0.0 Safari/537.36",
              b"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
              b"curl/7.88.1"]
    for i in range(5000):
        yield (b'203.0.113.%d - - [21/Nov/2026:07:35:%02d +0000] "GET /images/%d/photo-%d.jpg?size='
               b'large HTTP/1.1" 200 %d "%s" "%s"\n' % (
                   rng.randrange(256), i % 60, rng.randrange(100), rng.randrange(10 ** 6),
                   rng.randrange(10 ** 6),
                   rng.choice([b"-", b"https://www.example.com/albums/%d" % rng.randrange(1000)]),
                   rng.choices(agents, (8, 2, 1))[0]))


def stamped_lines():
    """What the sink tells from evil ones: they begin with a time."""
    for i in range(5000):
        text = b"%d GET /item/%d 200 " % (time.monotonic_ns(), i)
        yield text.ljust(LINE_BYTES - 1, b".") + b"\n"


def write_block(path, lines, size):
    """The lines over and over.  How many lines, and bytes."""
    lines = list(lines)
    block = b"".join(lines)
    times = max(1, size // len(block))
    with open(path, "wb") as file:
        for _ in range(times):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())     # so that nobody pays for writing it out later
    return times * len(lines), times * len(block)


class Records:
    def __init__(self, bench):
        self.bench = bench
        self.options = bench.options

    def parts(self):
        return [(name, getattr(self, name)) for name in RECORDS_PARTS]

    # shape

    def shape(self):
        bench = self.bench
        say("shape")
        with bench.cpus.on(bench.cpus.measured):
            done = subprocess.run([bench.tool("mill"), "3" if self.options.quick else "9"],
                                  stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise Failed(f"mill ended with {done.returncode}")
        bench.tables.append(done.stdout)

    # json

    def round(self, sink, path, lines, size, more):
        sink.reset()
        with Agent(self.bench, sink, path, more) as agent:
            sink.wait_for(lines, agent)
            agent.stop()
        self.bench.check_count("json", sink.stats()["records"], lines)
        return (agent.rusage.ru_utime + agent.rusage.ru_stime) * 1e9 / size

    def json(self):
        bench, path = self.bench, self.bench.work / "access.log"
        lines, size = write_block(path, access_lines(), self.options.size)
        floor, raw, json, share = [], [], [], []
        with Sink(bench) as sink:
            for i in range(self.options.rounds):
                say(f"json, round {i + 1} of {self.options.rounds}")
                sink.reset()
                floor.append(bench.run_tool("floor", path, sink.port)["cpu_seconds_per_gb"])
                raw.append(self.round(sink, path, lines, size, ""))
                json.append(self.round(sink, path, lines, size,
                                       'parse = { format = "combined"; };'))
                share.append(raw[-1] / json[-1])
        path.unlink()
        floor_cpu, raw_cpu, json_cpu = map(statistics.median, (floor, raw, json))
        bench.row("access log, CPU seconds per GB, raw", f"{raw_cpu:.2f}", f"{floor_cpu:.2f}")
        bench.row("  lowest and highest", f"{min(raw):.2f}..{max(raw):.2f}",
                  f"{min(floor):.2f}..{max(floor):.2f}")
        bench.row("  combined -> JSON", f"{json_cpu:.2f}")
        bench.row("  lowest and highest", f"{min(json):.2f}..{max(json):.2f}")
        bench.row("combined -> JSON, share of the raw rate", f"{statistics.median(share):.2f}", "",
                  f">= {AIM_JSON_SHARE}", statistics.median(share) >= AIM_JSON_SHARE)

    # evil

    def evil_round(self, backlog, lines, size, evil):
        """MB/s of a backlog; then p50 and p99 of paced lines, in ms."""
        bench, paced = self.bench, self.bench.work / "paced.log"
        paced.write_bytes(b"the first line says that the file is followed\n")
        more = LINGER
        if evil is not None:
            more += (f' }}, {{ name = "evil"; files = [ "{evil}" ]; stream = "bench"; '
                     f'from = "start"; include = [ "{EVIL_PATTERN}" ]; {LINGER}')
        with Sink(bench, "--stamp") as sink:
            with Agent(bench, sink, f'{backlog}", "{paced}', more) as agent:
                sink.wait_for(lines, agent, key="stamped")
                took_ns = time.monotonic_ns() - agent.started_ns
                time.sleep(SETTLE_SECONDS)
                sink.reset()
                seconds = self.options.latency_seconds
                done = bench.run_tool("pace", paced, PACED_LINES_PER_SECOND, seconds, LINE_BYTES)
                sink.wait_for(int(done["lines"]), agent, key="stamped")
                stats = sink.stats()
                # Thousands of lines are left that nobody needs to wait for.
                agent.popen.kill()
                agent.wait(5)
        bench.check_count("evil, the ordinary lines", stats["stamped"], int(done["lines"]))
        if evil is not None and stats["records"] <= stats["stamped"]:
            bench.failures.append("evil: no evil line came")
        return (size * 1e3 / took_ns, stats["p50_us"] / 1000, stats["p99_us"] / 1000,
                (stats["records"] - stats["stamped"]) / seconds)

    def evil(self):
        bench = self.bench
        backlog, evil = bench.work / "backlog.log", bench.work / "evil.log"
        lines, size = write_block(backlog, stamped_lines(), self.options.size // 2)
        write_block(evil, [EVIL_LINE] * 1000, EVIL_LINES * len(EVIL_LINE))
        alone, beside = [], []
        for i in range(EVIL_ROUNDS):
            say(f"evil, round {i + 1} of {EVIL_ROUNDS}")
            alone.append(self.evil_round(backlog, lines, size, None))
            beside.append(self.evil_round(backlog, lines, size, evil))
        backlog.unlink()
        evil.unlink()
        share = statistics.median(b[0] / a[0] for a, b in zip(alone, beside))
        mb, p50, p99, _ = map(statistics.median, zip(*alone))
        bench.row("an ordinary flow alone, MB/s", f"{mb:.0f}")
        bench.row("  append to request, p50 and p99 ms", f"{p50:.2f}, {p99:.2f}")
        mb, p50, p99, evil_rate = map(statistics.median, zip(*beside))
        bench.row("  beside an evil one, MB/s", f"{mb:.0f}")
        bench.row("  append to request, p50 and p99 ms", f"{p50:.2f}, {p99:.2f}")
        bench.row("  evil lines per second meanwhile", f"{evil_rate:.0f}")
        bench.row("beside an evil flow, share of the rate alone", f"{share:.2f}", "",
                  f">= {AIM_EVIL_SHARE}", share >= AIM_EVIL_SHARE)
