#!/usr/bin/env python3
"""Runs the tests and counts them.

    tests/check.py                      everything `make check` means
    tests/check.py unit system ...      only these steps

A step says one line when it is well and everything when it is not.  The last line of all is
"N passed, N failed", and the exit status says the same.
"""

import argparse
import concurrent.futures
import glob
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("KT_BUILD", "build")
SHORT_FUZZ_SECONDS = 5
HISTORIES = 2000
SOAK = 20000
HISTORIES_SANITIZED = 300  # under a sanitizer: each takes four times as long
CRASHES = 100000  # states of a disk after a crash, from each of which a start is tried
CRASHES_SOAK = 2000000
CRASHES_SANITIZED = 10000
HISTORIES_AT_ONCE = 16  # they sleep most of the time, until the kernel's clock moves

# A test asks for more memory than there is, to be refused; malloc refuses, and so shall they.
SANITIZERS = {"TSAN_OPTIONS": "allocator_may_return_null=1", "ASAN_OPTIONS": "allocator_may_return_null=1"}
ALL_STEPS = ["unit", "sim", "asan", "fuzz", "third-party", "system"]


class Count:
    """What came out so far."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, passed, failed, skipped=0):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped


def say(text):
    print(text, flush=True)


def run(command, env=None, timeout=1800):
    """The exit status and all output of a command."""
    try:
        done = subprocess.run(command, cwd=ROOT, env={**SANITIZERS, **os.environ, **(env or {})}, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired as e:
        return -1, f"{e.stdout or ''}\n(took more than {timeout} s)"
    except OSError as e:
        return -1, str(e)


def report(name, started, passed, failed, output):
    took = time.monotonic() - started
    if failed:
        say(output.rstrip())
    say(f"{'FAIL' if failed else 'ok  '} {name}: {passed} passed, {failed} failed ({took:.1f} s)")


def make(*arguments):
    """Builds what a step needs; what the compiler said only if it failed."""
    status, output = run(["make", "--no-print-directory", "-j2", "QUIET=1", *arguments])
    if status != 0:
        say(output)
    return status == 0


def unit_programs(build):
    names = re.search(r"^unit\s*:=((?:.*\\\n)*.*)", open(os.path.join(ROOT, "Makefile")).read(), re.M)
    return [os.path.join(build, "unit", n) for n in names.group(1).replace("\\", " ").split()]


def run_unit(count, build, wrapper=(), label=""):
    for program in unit_programs(build):
        started = time.monotonic()
        status, output = run([*wrapper, os.path.join(".", program) if not os.path.isabs(program) else program])
        passed = len(re.findall(r"^\[       OK \]", output, re.M))
        failed = len(set(re.findall(r"^\[  FAILED  \] (?!\d)(\S+)", output, re.M)))
        if status != 0 and failed == 0:
            failed = 1
        if status == 0 and passed == 0:
            output, failed = output + "\nit ran no test", 1
        report(f"unit {label}{os.path.basename(program)}", started, passed, failed, output)
        count.add(passed, failed)


def step_unit(count, options):
    run_unit(count, BUILD)


def run_histories(count, build, number, label="", more=(), timeout=1800):
    """Histories of the seeds 1 to `number`, some at once; those that fail are told."""
    started = time.monotonic()
    share = -(-number // HISTORIES_AT_ONCE)
    with concurrent.futures.ThreadPoolExecutor(HISTORIES_AT_ONCE) as pool:
        done = list(pool.map(lambda first: run([f"./{build}/sim/histories", "--seed", str(first), "--count",
                                                str(min(share, number + 1 - first)), *more], timeout=timeout),
                             range(1, number + 1, share)))
    told = sum(int(n) for _, output in done for n in re.findall(r"^(\d+) histories, \d+ bad$", output, re.M))
    bad = [output for status, output in done if status != 0]
    if not bad and told != number:
        bad = [f"only {told} histories were told"]
    report(f"sim {label}histories, {told} of them", started, int(not bad), int(bool(bad)), "\n".join(bad))
    count.add(int(not bad), int(bool(bad)))


# The mixes that must be well, always.  What else the model knows (`make soak`) still has histories that
# are not: ARCHITECTURE.md says of which kinds.
MIXES = {
    "": ("--headed", "0", "--without", "shorten,mvdir,rmdir,freeze,late,backup"),
    "directories' ": ("--headed", "0", "--only", "write,half,pass,mvdir,rmdir,rotate,faults,truncate"),
    "events' ": ("--headed", "0", "--without", "shorten,mvdir,rmdir,freeze,late,backup", "--events", "1"),
    "joined ": ("--headed", "0", "--without", "shorten,mvdir,rmdir,freeze,late,backup", "--events", "2"),
    "whole ": ("--headed", "0", "--only", "write,pass,rotate,shift,kill,stop,start,faults", "--globs", "3",
               "--events", "3"),
    "dead ": ("--headed", "0", "--without", "shorten,mvdir,rmdir,freeze,late,backup", "--events", "4"),
    "frozen ": ("--headed", "0", "--only", "write,half,pass,late,rotate,move-out,freeze,replace,start,faults"),
}


def run_mixes(count, build, number, label=""):
    for mix, options in MIXES.items():
        run_histories(count, build, number if mix == "" else number // 5, label + mix, ("--wild", "0", *options))


def run_crashes(count, build, number, label="", timeout=1800):
    """What we keep on disk, through `number` crashes of it; two programs at once, each its own stories."""
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda first: run([f"./{build}/sim/crashes", "--seed", str(first), "--states",
                                                str(number // 2)], timeout=timeout), (1, 1000001)))
    tried = sum(int(n) for _, output in done for n in re.findall(r"^(\d+) crash states, .* 0 violations$", output, re.M))
    bad = [output for status, output in done if status != 0]
    if not bad and tried < number:
        bad = [f"only {tried} states were tried"]
    report(f"sim {label}crashes, {tried} states", started, int(not bad), int(bool(bad)), "\n".join(bad))
    count.add(int(not bad), int(bool(bad)))


def run_nth(count, build, label=""):
    """One story, with each of the agent's calls failing once."""
    started = time.monotonic()
    status, output = run([f"./{build}/sim/nth"])
    told = re.search(r"^(\d+ stories .*), 0 crashes, 0 lost$", output, re.M)
    bad = status != 0 or told is None
    report(f"sim {label}nth, {told.group(1) if told else 'none'}", started, int(not bad), int(bad), output)
    count.add(int(not bad), int(bad))


def step_sim(count, options):
    run_mixes(count, BUILD, HISTORIES)
    run_crashes(count, BUILD, CRASHES)
    run_nth(count, BUILD)


def step_soak(count, options):
    """As many as SOAK_COUNT says, and as many in which the agent may be frozen at any time."""
    number = int(os.environ.get("SOAK_COUNT") or SOAK)
    for label, wild in (("", "0"), ("wild ", "100")):
        run_histories(count, BUILD, number, label, ("--wild", wild), timeout=None)
    run_crashes(count, BUILD, CRASHES_SOAK, timeout=None)


def step_asan(count, options):
    """The unit tests once more under AddressSanitizer and UBSan; the system tests use that binary
    where they kill and damage things (see tests/system)."""
    if not make("BUILD=build/asan", "SAN=asan", "all", "unit-programs"):
        return count.add(0, 1)
    run_unit(count, "build/asan", label="asan ")
    run_mixes(count, "build/asan", HISTORIES_SANITIZED, "asan ")
    run_crashes(count, "build/asan", CRASHES_SANITIZED, "asan ")


def step_valgrind(count, options):
    wrapper = ("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite")
    run_unit(count, BUILD, wrapper, "valgrind ")


def step_fuzz(count, options):
    if not make("BUILD=build/fuzz", "SAN=fuzz", "CC=clang", "fuzz-programs"):
        return count.add(0, 1)
    for source in sorted(glob.glob(os.path.join(ROOT, "tests/fuzz/fuzz_*.c"))):
        name = os.path.basename(source)[len("fuzz_"):-len(".c")]
        seeds = os.path.join("tests/fuzz/seeds", name)
        corpus = os.path.join("build/fuzz/corpus", name)
        os.makedirs(os.path.join(ROOT, corpus), exist_ok=True)
        found = os.path.join("build/fuzz/found", name)
        os.makedirs(os.path.join(ROOT, found), exist_ok=True)
        started = time.monotonic()
        status, output = run([f"build/fuzz/fuzz/{name}", f"-max_total_time={options.fuzz_seconds}",
                              "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
                              f"-artifact_prefix={found}/", corpus,
                              *([seeds] if os.path.isdir(os.path.join(ROOT, seeds)) else [])],
                             timeout=options.fuzz_seconds + 300)
        runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
        report(f"fuzz {name}, {runs.group(1) if runs else 0} inputs", started, int(status == 0),
               int(status != 0), output)
        count.add(int(status == 0), int(status != 0))


def step_third_party(count, options):
    """Installs the servers that the system tests speak with; nothing is counted here."""
    status, output = run(["sh", "tests/system/third_party.sh"])
    if status != 0:
        say(output)
        say("FAIL third-party servers cannot be installed; their tests will say so")


def count_pytest(output):
    last = [l for l in output.splitlines() if re.search(r"\d+ (passed|failed|error|skipped)", l)]
    numbers = dict((k, int(n)) for n, k in re.findall(r"(\d+) (passed|failed|error|skipped)", last[-1])) if last else {}
    return numbers.get("passed", 0), numbers.get("failed", 0) + numbers.get("error", 0), numbers.get("skipped", 0)


def run_pytest(count, label, *arguments, timeout):
    started = time.monotonic()
    python = "/usr/bin/python3" if os.path.isdir("/usr/lib/python3/dist-packages/pytest") else sys.executable
    status, output = run([python, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short",
                          "-rs", *arguments], timeout=timeout)
    passed, failed, skipped = count_pytest(output)
    if status not in (0,) and failed == 0:
        failed = 1
    report(label, started, passed, failed, output)
    for line in output.splitlines():
        if line.startswith("SKIPPED"):
            say("     " + line)
    count.add(passed, failed, skipped)
    return output


# They change the kernel's limits, or need the whole machine to themselves.
ALONE = ["test_inotify_limits.py", "test_scale.py"]
# These take longest, and begin first.
LONG = ["test_misbehave.py", "test_disks.py", "test_network.py", "test_kills.py", "test_fairness.py", "test_crash.py",
        "test_spool.py", "test_memory.py", "test_queue.py", "test_large_records.py"]
SYSTEM_AT_ONCE = 3  # tests wait most of the time; more would make each of them slow


def step_system(count, options):
    if options.rest:
        run_pytest(count, "system", "tests/system", *options.rest, timeout=1500)
        return
    files = sorted(os.path.basename(f) for f in glob.glob(os.path.join(ROOT, "tests/system/test_*.py")))
    files.sort(key=lambda f: LONG.index(f) if f in LONG else len(LONG))
    os.environ.setdefault("KT_PATIENCE", "3")
    with concurrent.futures.ThreadPoolExecutor(SYSTEM_AT_ONCE) as pool:
        list(pool.map(lambda f: run_pytest(count, f"system {f[5:-3]}", f"tests/system/{f}", timeout=1500),
                      [f for f in files if f not in ALONE]))
    for f in ALONE:
        run_pytest(count, f"system {f[5:-3]}", f"tests/system/{f}", timeout=1500)


def step_kills(count, options):
    """As many as KILLS says, and what they cost."""
    output = run_pytest(count, "kills", "-s", "tests/system/test_kills.py", *options.rest, timeout=None)
    for line in re.findall(r"^\.?((?:kinesis|firehose): .*)$", output, re.M):
        say("     " + line)


def step_lint(count, options):
    sources = subprocess.run(["git", "ls-files", "agent/*.c", "common/*.c"], cwd=ROOT, text=True,
                             stdout=subprocess.PIPE, check=True).stdout.split()
    scripts = ["packaging/deps", "tests/system/third_party.sh", ".ci/run"]
    flags = ["-std=gnu17", "-D_GNU_SOURCE", '-DKINETAIL_VERSION="0"', "-Icommon", "-Iagent"]
    for name, command in [
        ("clang-tidy", ["clang-tidy", "--quiet", "--warnings-as-errors=*", *sources, "--", *flags]),
        ("cppcheck", ["cppcheck", "--quiet", "--error-exitcode=1", "--std=c11", "--inline-suppr",
                      "--enable=warning,portability", "--suppress=missingIncludeSystem",
                      "-D_GNU_SOURCE", '-DKINETAIL_VERSION="0"', "-Icommon", "-Iagent", *sources]),
        ("shellcheck", ["shellcheck", *scripts]),
    ]:
        started = time.monotonic()
        status, output = run(command)
        report(f"lint {name}", started, int(status == 0), int(status != 0), output)
        count.add(int(status == 0), int(status != 0))


STEPS = {"unit": step_unit, "sim": step_sim, "soak": step_soak, "asan": step_asan, "fuzz": step_fuzz, "third-party": step_third_party,
         "system": step_system, "kills": step_kills, "valgrind": step_valgrind, "lint": step_lint}


def main():
    arguments, rest = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, rest = arguments[:at], arguments[at + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--fuzz-seconds", type=int, default=SHORT_FUZZ_SECONDS)
    options = parser.parse_args(arguments)
    options.rest = rest
    count = Count()
    for step in options.steps or ALL_STEPS:
        if step not in STEPS:
            parser.error(f"no step '{step}'")
        STEPS[step](count, options)
    skipped = f", {count.skipped} skipped" if count.skipped else ""
    say(f"{count.passed} passed, {count.failed} failed{skipped}")
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main())
