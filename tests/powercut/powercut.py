"""Cuts the power of a machine on which the agent works, again and again, and counts what is lost.

    python3 tests/powercut/powercut.py [--cuts N] [--nosync] [--seed N] [--place DIR]

The machine is QEMU with Debian's kernel; its disk (nbd.py) forgets, at the cut, any of the sectors
that were written since the last flush.  In it a writer (guest.c) appends numbered lines to a log,
rotates it, calls fsync now and then and says so on the serial line; the agent ships the log to
tests/aws, outside; and a cleaner deletes rotated files as soon as the agent's checkpoint says that
they are done with.  The endpoint fails now and then, also across cuts.  Each boot recovers from the
cut before it.  After the last one the agent may finish, and then:

    lost        lines that were durable before a cut and never arrived: must be 0
    torn        records that are no line that was written: must be 0

A line that was not durable may arrive or not.  Then it all begins anew with an agent whose fsync
does nothing, and lines must be lost: a rig that does not see that sees nothing.  The agent's flow
has from = "end", so that a forgotten checkpoint is not made good by reading all again.

There is no KVM in many places, so the processor is emulated, and a boot takes seconds.  So the
machine boots once, is put to sleep when it needs its disk, and each life begins with that sleeper.
"""
import argparse
import contextlib
import fcntl
import os
import pathlib
import random
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))
sys.dont_write_bytecode = True

import image  # noqa: E402
import oracle  # noqa: E402
from harness import KEY_ID, REGION, SECRET, Endpoint, flow, libconfig  # noqa: E402
from nbd import Disk  # noqa: E402

DISK_BYTES = 512 << 20
MEMORY = "256M"
GUEST_PORT = 8000                       # where the guest's agent finds the endpoint, see init
KERNEL_OPTIONS = ("console=ttyS1 quiet panic=-1 rdinit=/init mitigations=off nokaslr lsm= "
                  "cryptomgr.notests")  # nothing that we test, and a second of each boot
RATE = 1200                             # lines a second, for the first second of each life
BOOT_S = 120                            # the slowest machine has booted by then
FIRST_S = 3                             # by then a first start is on disk
DRAIN_S = 300
QUIET_S = 45                            # longer than the agent's longest wait
NOSYNC_CUTS = 10                        # after the others, to see that the rig sees
FUSED = 0.7                             # of the cuts hit a moment with something in the cache
PATIENCE = "200ms"                      # then what is not taken is spooled, and its file may go
EARLY = 8                               # one cut in so many hits the start
MARK = b" #cut"                         # guest.c ends with it what a cut left half

# What the endpoint may be like from some moment on, for so many milliseconds: with the probability.
WEATHER = (
    (0.35, None),
    (0.20, {"kind": "down"}),
    (0.20, {"kind": "error", "status": 503, "code": "ServiceUnavailable"}),
    (0.10, {"kind": "partial", "rate": 0.5}),
    (0.05, {"kind": "stall"}),
    (0.10, {"kind": "reset_after_store", "rate": 0.5}),
)


class Judge(oracle.Oracle):
    """The oracle, which knows what lines a power cut leaves in a file."""

    def __init__(self, record_file):
        super().__init__(record_file)
        self.halves = 0
        self.odd = set()                # CRC32s of lines that the file system has made
        self._suspects = []

    def judge(self, record):
        if record.endswith(MARK):
            self.halves += 1
        else:
            super().judge(record)

    def _tear(self, record):
        self._suspects.append(record)

    def torn_records(self):
        return [one for one in self._suspects if zlib.crc32(one) not in self.odd]

    def lost(self):
        """{id: [numbers]} of the durable lines that did not arrive."""
        self.poll()
        return {name.decode(): numbers for name, numbers in self.missing().items()}


class Broken(Exception):
    """The rig does not work, or the machine is not well: not a verdict on what was delivered."""


class Machine:
    """One life of the machine: from power on, or from its sleep, to the cut."""

    def __init__(self, place, disk, told, *more):
        self.told = told
        self._rest = b""
        disk.serve()
        self.errors = open(place / "guest.err", "ab")
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64", "-smp", "1",
             "-m", MEMORY, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-kernel", "vmlinuz", "-initrd", "initramfs", "-append", KERNEL_OPTIONS,
             "-drive", f"driver=raw,file.driver=nbd,file.server.type=unix,"
                       f"file.server.path={disk.path.name},if=none,id=disk,cache=writeback",
             "-device", "virtio-blk-pci,drive=disk",
             "-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile=",
             "-chardev", "stdio,id=words,signal=off", "-serial", "chardev:words",
             "-serial", "file:agent.err.now", *more],
            cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def sleep(self, place):
        """Leaves the machine as it is in a file, and ends it."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(place / "monitor"))
            with monitor.makefile("rw", encoding="utf-8") as words:
                words.write('migrate "exec:cat > asleep"\nquit\n')
                words.flush()
                words.read()
        self.process.wait()

    def listen(self, seconds, until=None):
        """Hears what the machine tells for so long, or until it says this."""
        deadline = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self.process.stdout], [], [],
                                        max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            if not self._hear() and until is not None:
                raise Broken("the machine ended by itself")
            while b"\n" in self._rest:
                line, _, self._rest = self._rest.partition(b"\n")
                if self.told(line.decode(errors="replace")) == until and until is not None:
                    return True

    def _hear(self):
        data = os.read(self.process.stdout.fileno(), 65536)
        if not data:
            if self.process.poll() is not None:
                raise Broken(f"QEMU ended with status {self.process.returncode}")
            time.sleep(0.01)
        self._rest += data
        return bool(data)

    def say(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def cut(self):
        self.process.kill()
        while data := os.read(self.process.stdout.fileno(), 65536):
            self._rest += data          # it was said before the power went
        self.process.wait()
        for line in self._rest.split(b"\n")[:-1]:
            self.told(line.decode(errors="replace"))
        self.process.stdin.close()
        self.process.stdout.close()
        self.errors.close()


class Rig:
    def __init__(self, arguments):
        self.arguments = arguments
        place = arguments.place / ("nosync" if arguments.nosync else "sync")
        place.mkdir(exist_ok=True)
        self.place = place
        self.dice = random.Random(arguments.seed)
        self.durable = {}
        self.here = {}                  # id -> lines in the files, as the present boot found them
        self.gone = set()               # ids whose file was deleted, or about to be
        self.found = False
        self.pending = self.forgotten = 0
        self.boots = 0
        self.problems = []
        self.seconds = []
        for name in ("endpoint.records", "guest.err", "agent.err", "disk.sock"):
            (place / name).unlink(missing_ok=True)
        self.words = open(place / "words", "w", encoding="utf-8", buffering=1)
        vmlinuz, modules = image.kernel(arguments.place)
        shutil.copyfile(vmlinuz, place / "vmlinuz")
        image.initramfs(place / "initramfs", arguments.place, modules, ROOT / "kinetail",
                        self.config(), oracle._POOL)
        with open(place / "disk.img", "wb") as file:
            file.truncate(DISK_BYTES)
        image.run("/sbin/mkfs.ext4", "-q", "-F", "-b", "4096", "-E",
                  "lazy_itable_init=0,lazy_journal_init=0", place / "disk.img")
        self.disk = Disk(place / "disk.img", place / "disk.sock")
        self.endpoint = Endpoint(place)
        self.judge = Judge(self.endpoint.record_file)

    @staticmethod
    def config():
        settings = {"region": REGION, "state_dir": "/disk/state",
                    "endpoint": {"kinesis": f"http://127.0.0.1:{GUEST_PORT}"},
                    "credentials": {"access_key_id": KEY_ID, "secret_access_key": SECRET},
                    "spool": {"patience": PATIENCE, "min_free": "16MiB"},
                    "flows": [flow("/disk/log/app.log", start="end", linger="20ms", records=200)]}
        return "".join(f"{k} = {libconfig(v)};\n" for k, v in settings.items())

    # what the machine tells

    def told(self, line):
        self.words.write(f"{time.time():.3f} {line}\n")
        word, _, rest = line.partition(" ")
        if word in ("has", "durable", "gone"):
            match = re.fullmatch(r"(c\d+\.\d+) (\d+)", rest)
            if not match:
                return None
            name, count = match.group(1), int(match.group(2))
            if word == "durable":
                self.durable[name] = count
            elif word == "has":
                self.here[name] = count
            else:
                self.gone.add(name)
                self.here[name] = count
        elif word == "odd":
            self.judge.odd.add(int(rest.split()[0], 16))
        elif word == "writing":
            self.found = True
        elif word == "broken" or (word == "ended" and rest != "0"):
            self.problems.append(line)
        return word

    def check_disk(self):
        """Has the disk kept its word?  Else the rig is wrong, or the kernel."""
        for name, count in self.durable.items():
            if name in self.here and self.here[name] < count:
                self.problems.append(f"the disk forgot durable lines: {name} has "
                                     f"{self.here[name]} of {count}")
            elif name not in self.here and name not in self.gone:
                self.problems.append(f"the disk forgot the durable file of {name}")

    def boot(self, mode, number):
        self.boots += 1
        self.here = {}
        self.found = False
        settings = (f"{self.dice.getrandbits(256):x}", mode, self.endpoint.port,
                    number, self.dice.getrandbits(48), RATE, self.dice.randrange(2),
                    self.dice.randrange(2), "/lib/nosync.so" if self.arguments.nosync else "-")
        machine = Machine(self.place, self.disk, self.told, "-incoming", "exec:cat asleep")
        try:
            self.until(machine, "ready")
            machine.say(" ".join(map(str, (time.time_ns(), *settings))) + "\n")
            self.until(machine, "mounted")
        except BaseException:
            machine.cut()
            raise
        return machine

    @staticmethod
    def until(machine, word):
        if not machine.listen(BOOT_S, until=word):
            raise Broken(f"the machine does not say '{word}' within {BOOT_S} s")

    def until_it_follows(self, machine):
        """The agent has started; on a busy machine that takes a while."""
        deadline = time.monotonic() + BOOT_S
        while b": following" not in (self.place / "agent.err.now").read_bytes():
            machine.listen(0.02)
            if time.monotonic() > deadline:
                raise Broken(f"the agent does not start within {BOOT_S} s")

    def first_boot(self):
        """To where it needs its disk; from there all others begin."""
        machine = Machine(self.place, self.disk, self.told,
                          "-monitor", "unix:monitor,server=on,wait=off")
        try:
            self.until(machine, "ready")
            machine.sleep(self.place)
        finally:
            machine.cut()
            self.disk.cut(self.dice, 1.0)

    def after(self, machine, survive):
        """The power goes."""
        machine.cut()
        self.words.write(f"{time.time():.3f} --- the end of boot {self.boots}\n")
        pending, forgotten = self.disk.cut(self.dice, survive)
        self.pending += pending
        self.forgotten += forgotten
        with open(self.place / "agent.err.now", "rb") as now, \
                open(self.place / "agent.err", "ab") as all_of_it:
            all_of_it.write(b"--- boot %d\n" % self.boots)
            shutil.copyfileobj(now, all_of_it)
        if self.problems:
            raise Broken("; ".join(self.problems))

    def weather(self, seconds):
        """Lets the endpoint fail from some moment on, for some time; a thread, as it waits."""
        toss = self.dice.random()
        for share, fault in WEATHER:
            toss -= share
            if toss < 0:
                break
        if fault is None:
            return
        wait, last = self.dice.uniform(0, seconds), self.dice.uniform(0.2, 3 * seconds)

        def strike():
            time.sleep(wait)
            with contextlib.suppress(OSError):      # it may be down still
                self.endpoint.faults({**fault, "for_ms": 1000 * last})
        threading.Thread(target=strike, daemon=True).start()

    # the story

    def prepare(self):
        """The first start of all: it decides from where files are read, and that must survive."""
        machine = self.boot("prepare", 0)
        machine.listen(BOOT_S, until="started")
        machine.listen(FIRST_S)
        self.after(machine, 0.0)

    def cut(self, number):
        began = time.monotonic()
        machine = self.boot("cut", number)
        early = number % EARLY == 0
        seconds = self.dice.uniform(0, 1.0) if early else self.dice.uniform(0.1, 1.5)
        self.weather(seconds)
        if not early:
            self.until_it_follows(machine)
        machine.listen(seconds)
        if self.dice.random() < FUSED:
            self.disk.fuse(self.dice.randrange(12))
            until = time.monotonic() + 0.5
            while not self.disk.dead.is_set() and time.monotonic() < until:
                machine.listen(0.002)
        self.after(machine, self.dice.choice((0.0, 0.5, 0.9, 1.0, self.dice.random())))
        if self.found:
            self.check_durable_before(number)
        self.seconds.append(time.monotonic() - began)

    def check_durable_before(self, number):
        """`has` tells of earlier boots; what this one wrote is not among it."""
        mine = {name: self.durable.pop(name) for name in list(self.durable)
                if name.startswith(f"c{number}.")}
        self.check_disk()
        self.durable.update(mine)
        if self.problems:
            raise Broken("; ".join(self.problems))

    def drain(self):
        """The agent alone, until all is delivered or nothing more comes."""
        with contextlib.suppress(OSError):
            self.endpoint.heal()
        machine = self.boot("drain", 0)
        machine.listen(BOOT_S, until="started")
        self.judge.wrote(dict(self.durable))
        deadline, quiet = time.monotonic() + DRAIN_S, 0
        while self.judge.lost() and time.monotonic() < deadline and quiet < QUIET_S:
            before = self.judge.delivered
            machine.listen(1.0)
            self.judge.poll()
            quiet = 0 if self.judge.delivered > before else quiet + 1
        machine.say("\n")
        self.until(machine, "ended")
        self.after(machine, 1.0)
        image.run("/sbin/e2fsck", "-f", "-n", self.place / "disk.img")

    def run(self):
        self.first_boot()
        self.prepare()
        for number in range(1, self.arguments.cuts + 1):
            self.cut(number)
            if number % 10 == 0:
                self.judge.poll()
                print(f"{number:5} cuts: {sum(self.durable.values()):,} lines durable, "
                      f"{self.judge.delivered:,} delivered, {self.judge.duplicated:,} twice, "
                      f"{sum(self.seconds[-10:]) / 10:.1f} s a cut", flush=True)
        self.drain()

    def verdict(self):
        holes, torn = self.judge.lost(), self.judge.torn_records()
        lost = sum(map(len, holes.values()))
        cuts = len(self.seconds)
        print(f"{cuts} cuts{' without fsync' if self.arguments.nosync else ''}: "
              f"{sum(self.durable.values()):,} lines durable, {self.judge.delivered:,} delivered, "
              f"{lost:,} lost, {len(torn):,} torn, {self.judge.duplicated:,} duplicated, "
              f"{sum(self.seconds) / max(1, cuts):.1f} s a cut")
        print(f"  the disk had {self.pending:,} sectors in its cache at the cuts and forgot "
              f"{self.forgotten:,} of them")
        for name, numbers in list(holes.items())[:5]:
            print(f"  lost: {len(numbers)} of {self.durable[name]} lines of {name}: "
                  f"{oracle.ranges(numbers)}")
        for record in torn[:5]:
            print(f"  torn: {len(record)} bytes, {record[:100]!r} ... {record[-60:]!r}")
        if self.arguments.nosync:
            print("  as it must be" if lost else "  WRONG: without fsync lines must be lost, or "
                                                 "the rig does not see it")
            return lost > 0
        return lost == 0 and not torn

    def close(self):
        self.endpoint.stop()
        self.disk.close()
        self.words.close()


def phase(arguments, nosync, cuts):
    """A disk's whole life; tells whether it ended as it must."""
    arguments.nosync, arguments.cuts = nosync, cuts
    rig = Rig(arguments)
    try:
        rig.run()
        return rig.verdict()
    except Broken as error:
        print(f"powercut: after {len(rig.seconds)} cuts: {error}; "
              f"what the agent said is in {rig.place / 'agent.err'}")
        return False
    finally:
        rig.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--nosync", action="store_true",
                        help="only the part in which the agent's fsync does nothing")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is tossed for")
    parser.add_argument("--place", type=pathlib.Path, default=ROOT / "build" / "powercut",
                        help="where everything is kept, the disk's image too")
    arguments = parser.parse_args()
    arguments.seed = arguments.seed or random.SystemRandom().randrange(1, 1 << 32)
    arguments.place.mkdir(parents=True, exist_ok=True)
    lock = open(arguments.place / "lock", "w", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"powercut: another one is at work in {arguments.place}; wait, or say --place")
    print(f"powercut: seed {arguments.seed}", flush=True)
    if arguments.nosync:
        well = phase(arguments, True, arguments.cuts)
    else:
        well = phase(arguments, False, arguments.cuts)
        well = phase(arguments, True, NOSYNC_CUTS) and well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
