"""What `make demo` shows: a rotating log reaches a stream, through bursts of throttling, and no
line is lost.  All of it on this machine: tests/aws stands for Amazon Kinesis.

    python3 tests/demo.py [--seconds N] [--rate LINES_PER_SECOND]

Exit status 1 if a line was lost or torn."""
import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "system"))
sys.dont_write_bytecode = True

from harness import BINARY, Agent, Endpoint, flow  # noqa: E402
from oracle import Oracle  # noqa: E402
from writer import Writer  # noqa: E402

ROTATE_S = 1.0
BURSTS = (0.25, 0.6)                    # when throttling begins, as parts of the time
BURST_S = 2.0
BURST_RATE = 0.4                        # of the records

# Each column: title, width.
COLUMNS = (("time", 5), ("written", 10), ("delivered", 10), ("behind", 8), ("requests", 9),
           ("throttled", 10), ("rotations", 10), ("memory", 9), ("cpu", 6))


class Ink:
    """Colour, on a terminal only."""

    def __init__(self, stream):
        self.on = stream.isatty() and "NO_COLOR" not in os.environ

    def __call__(self, code, text):
        return f"\x1b[{code}m{text}\x1b[0m" if self.on else text


class Rotator(threading.Thread):
    """Every second: app.log becomes app.log.N, which the glob does not match; the writer creates
    app.log anew when it notices."""

    def __init__(self, log):
        super().__init__(daemon=True)
        self.log = log
        self.rotations = 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(ROTATE_S):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.log, f"{self.log}.{self.rotations + 1}")
                self.rotations += 1

    def stop(self):
        self.done.set()
        self.join()


def row(values):
    return "".join(f"{value:>{width}}" for value, (_, width) in zip(values, COLUMNS))


def show(seconds, rate, place, ink):
    logs = place / "logs"
    logs.mkdir()
    log = logs / "app.log"
    endpoint = Endpoint(place)
    oracle = Oracle(endpoint.record_file)
    agent = Agent(place, endpoint)
    agent.configure(flow(logs / "*.log", linger="100ms"))
    writer = None
    rotator = Rotator(log)
    try:
        agent.start()
        print(f"kinetail follows {logs}/*.log; {rate:,} lines/s are written, and app.log is "
              f"renamed every {ROTATE_S:g} s.\n")
        print(ink("1", row([title for title, _ in COLUMNS])))
        writer = Writer(log, oracle, place, name="demo", rate=rate, hold=0.2)
        rotator.start()
        begin = before = time.monotonic()
        cpu = agent.cpu_seconds()
        bursts = [part * seconds for part in BURSTS]
        burst_end = 0.0
        try:
            for tick in range(1, int(seconds) + 1):
                time.sleep(max(0.0, begin + tick - time.monotonic()))
                agent.alive()
                now, passed = time.monotonic(), time.monotonic() - begin
                if bursts and passed >= bursts[0]:
                    bursts.pop(0)
                    endpoint.fault("partial", rate=BURST_RATE, for_ms=BURST_S * 1000)
                    burst_end = passed + BURST_S
                used, cpu = agent.cpu_seconds() - cpu, agent.cpu_seconds()
                stats = endpoint.stats()
                written, delivered = writer.total, oracle.poll()
                text = row([f"{passed:.0f} s", f"{written:,}", f"{delivered:,}",
                            f"{max(0, written - delivered):,}",
                            f"{stats['operations'].get('PutRecords', 0):,}",
                            f"{stats['records_failed']:,}", rotator.rotations,
                            f"{agent.memory('VmRSS') / (1 << 20):.1f} MiB",
                            f"{used / (now - before):.0%}"])
                before = now
                throttled = passed < burst_end + 1
                print(ink("33", text) if throttled else text, flush=True)
        except KeyboardInterrupt:
            print()
        rotator.stop()
        writer.stop()
        with contextlib.suppress(AssertionError):       # then the verdict says what is missing
            oracle.wait(None, timeout=60, alive=agent.alive)
        peak = agent.memory("VmHWM")
        agent.terminate()
        return oracle.verdict(), rotator.rotations, peak, endpoint.stats()
    except AssertionError:
        print(agent.tail(), file=sys.stderr)
        raise
    finally:
        rotator.done.set()
        agent.abandon()
        if writer is not None:
            writer.abandon()
        endpoint.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rate", type=int, default=20000, help="lines a second")
    arguments = parser.parse_args()
    if not BINARY.exists():
        sys.exit(f"demo: {BINARY} is not there; run make first")
    ink = Ink(sys.stdout)
    with tempfile.TemporaryDirectory(prefix="kinetail-demo-") as place:
        verdict, rotations, peak, stats = show(arguments.seconds, arguments.rate,
                                               pathlib.Path(place), ink)
    bad = verdict.lost or verdict.torn
    print(f"\n{verdict.written:,} lines written, {verdict.delivered:,} delivered: "
          + ink("31;1" if bad else "32;1",
                f"{verdict.lost:,} lost, {verdict.torn:,} torn")
          + f", {verdict.duplicated:,} duplicated, {verdict.reordered:,} reordered.")
    print(f"{rotations} rotations, {stats['records_failed']:,} records throttled and sent again, "
          f"peak memory {peak / (1 << 20):.1f} MiB.")
    for sample in verdict.samples if bad else ():
        print("  " + sample)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
