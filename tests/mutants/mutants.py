#!/usr/bin/env python3
"""Takes away, one at a time, what keeps data on a disk, and looks whether a test notices.

    tests/mutants/mutants.py [--only TEXT] [--survivors]

Each row of table.py is one mutant: a text of one source file, and what stands in its place instead.  Only
that file is compiled, below build/mutants/, and linked before the library into the unit tests that the row names,
and if they are well with it into the crash simulation (tests/sim/crashes.c).  A mutant is caught if one of
them fails.  A text that is not there exactly once is an error: the code has changed, and the row
has to change with it.  `make mutants` runs this with what the compiler needs in the environment.
"""

import argparse
import concurrent.futures
import os
import shlex
import subprocess
import sys
import time

from table import MUTANTS

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("KT_BUILD", "build")
ORDINARY = ["--states", "1000000"]  # most mutants are caught in the first hundred
LARGE = ["--states", "60000", "--large", "1"]
SECONDS = 120
AT_ONCE = 2


def run(command, timeout=SECONDS):
    """The exit status and the end of what a command says; too slow is a failure as well."""
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout
    except subprocess.TimeoutExpired:
        return -1, f"(took more than {timeout} s)"


def objects(name):
    """What a test program is made of, beside the library."""
    if name == "crashes":
        return [f"{BUILD}/tests/sim/{o}.o" for o in ("crashes", "crash_model", "crashdisk")]
    return [f"{BUILD}/tests/unit/test_{name}.o"]


def build(directory, mutant):
    """Compiles the mutant; what the compiler says if it refuses."""
    path = os.path.join(ROOT, mutant.file)
    text = open(path, encoding="utf-8").read()
    found = text.count(mutant.old)
    if found != 1:
        return f"its text is there {found} times in {mutant.file}: {mutant.old.strip().splitlines()[0].strip()}"
    os.makedirs(os.path.join(ROOT, directory), exist_ok=True)
    source = os.path.join(directory, os.path.basename(mutant.file))
    with open(os.path.join(ROOT, source), "w", encoding="utf-8") as f:
        f.write(text.replace(mutant.old, mutant.new))
    status, said = run([*shlex.split(os.environ["KT_COMPILE"]), "-Icommon", "-Iagent", "-w", "-Wno-error", "-c",
                        "-o", os.path.join(directory, "mutant.o"), source])
    return said if status != 0 else None


def fails(directory, name, arguments):
    """Whether this test program fails with the mutant, and what it says."""
    program = os.path.join(directory, name)
    libraries = shlex.split(os.environ["KT_LIBRARIES"])
    wrap = ["-Wl,--wrap=clock_gettime"] if name == "crashes" else []
    status, said = run([*shlex.split(os.environ["KT_LINK"]), *wrap, "-o", program, *objects(name),
                        os.path.join(directory, "mutant.o"), f"{BUILD}/libkinetail.a", "-lcmocka", *libraries])
    if status != 0:
        raise RuntimeError(said)
    status, said = run([f"./{program}", *arguments])
    os.unlink(os.path.join(ROOT, program))
    return status != 0, said


def judge(number, mutant):
    """By which test the mutant is caught: its name and the last line it said; or None; or an error."""
    directory = os.path.join(BUILD, "mutants", str(number))
    error = build(directory, mutant)
    if error is not None:
        return None, error
    for name in (*mutant.units, "crashes"):
        bad, said = fails(directory, name, [] if name != "crashes" else LARGE if mutant.large else ORDINARY)
        if bad:
            last = [l for l in said.splitlines() if l.strip()]
            return name, last[-1].strip() if last else "it died"
    return None, None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutants in whose file or reason this text is")
    parser.add_argument("--survivors", action="store_true", help="tell only of those that are not caught")
    options = parser.parse_args()
    started = time.monotonic()
    chosen = [(n, m) for n, m in enumerate(MUTANTS, 1) if options.only in m.file + m.why]
    caught = errors = 0
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for (number, mutant), (by, said) in zip(chosen, pool.map(lambda row: judge(*row), chosen)):
            caught += by is not None
            errors += by is None and said is not None
            if by is None:
                print(f"NOT CAUGHT {number} {mutant.file}: {mutant.why}\n    {said or ''}", flush=True)
            elif not options.survivors:
                print(f"caught {number} {mutant.file}: {mutant.why}\n    {by}: {said}", flush=True)
    print(f"{caught} of {len(chosen)} caught" + (f", {errors} errors" if errors else "") +
          f" ({time.monotonic() - started:.0f} s)")
    return 0 if caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
