"""Real file systems for a test, mounted and taken away again.

A Disk is an image file with a file system of one kind, or what needs no image (tmpfs), or one on
top of another (overlay, whose layers lie on an ext4 of their own).  Everything is mounted below the
directory that the test gives, and close() leaves neither a mount nor a loop device behind, whatever
happened.  What this machine cannot mount raises Unmountable with the reason, for pytest.skip.
"""
import contextlib
import os
import pathlib
import subprocess
import time

from harness import have

MKFS = {
    "ext4": ("mkfs.ext4", "64M", ["-q", "-F"]),
    "xfs": ("mkfs.xfs", "320M", ["-q", "-f"]),                  # 300 MB is the least it makes
    "btrfs": ("mkfs.btrfs", "256M", ["-q", "-f"]),
}
KINDS = ("ext4", "xfs", "btrfs", "tmpfs", "overlay")


class Unmountable(Exception):
    """Why there cannot be such a file system here."""


def run(*command):
    """A command that may fail for what the machine lacks; gives its output."""
    program = have(command[0])
    if program is None:
        raise Unmountable(f"{command[0]} is not installed")
    done = subprocess.run([program, *map(str, command[1:])], capture_output=True, text=True,
                          errors="replace", check=False)
    if done.returncode != 0:
        raise Unmountable(f"{command[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def unmount(path):
    """Whatever is mounted at `path` is gone, at the latest when nobody uses it any more."""
    deadline = time.monotonic() + 5
    while os.path.ismount(path):
        try:
            run("umount", path)
        except Unmountable:                     # somebody has a file open there
            if time.monotonic() > deadline:
                run("umount", "-l", path)
            time.sleep(0.05)


@contextlib.contextmanager
def tmpfs(path):
    """A tmpfs over the directory `path`, which hides what is there."""
    run("mount", "-t", "tmpfs", "-o", "size=64M,mode=0755", "kinetail-test", path)
    try:
        yield pathlib.Path(path)
    finally:
        unmount(path)


class Disk:
    """One file system; `root` is where it is mounted."""

    def __init__(self, kind, place):
        self.kind = kind
        self.place = pathlib.Path(place)
        self.root = self.place / "disk"
        self.lower = self.upper = None          # the layers of an overlay, not mounted over
        self._under = None
        if os.geteuid() != 0:
            raise Unmountable("only root can mount")
        self.root.mkdir()
        try:
            self._make()
            self.mount()
        except Unmountable:
            self.close()
            raise

    def _make(self):
        if self.kind in MKFS:
            program, size, options = MKFS[self.kind]
            self.image = self.place / "image"
            with open(self.image, "wb") as file:
                file.truncate(int(size[:-1]) << 20)
            run(program, *options, self.image)
        elif self.kind == "overlay":
            layers = self.place / "layers"
            layers.mkdir()
            self._under = Disk("ext4", layers)
            self.lower, self.upper, self._work = (
                self._under.root / name for name in ("lower", "upper", "work"))
            for path in (self.lower, self.upper, self._work):
                path.mkdir()

    def mount(self):
        if self.kind in MKFS:
            run("mount", "-t", self.kind, "-o", "loop", self.image, self.root)
        elif self.kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", "size=64M,mode=0755", "kinetail-test", self.root)
        else:
            run("mount", "-t", "overlay", "-o",
                f"lowerdir={self.lower},upperdir={self.upper},workdir={self._work}",
                "kinetail-test", self.root)

    def unmount(self):
        unmount(self.root)

    def remount(self):
        """The same file system with another device number, as after a reboot.

        The number is the lowest that is free, so something else takes the old one first."""
        before = os.stat(self.root).st_dev
        spare = self.place / "spare"
        spare.mkdir(exist_ok=True)
        with open(self.place / "spare.image", "wb") as file:
            file.truncate(1 << 20)
        with contextlib.ExitStack() as spares:
            for _ in range(8):
                self.unmount()
                loop = run("losetup", "--find", "--show", self.place / "spare.image")
                spares.callback(run, "losetup", "--detach", loop)
                spares.enter_context(tmpfs(spare))
                self.mount()
                if os.stat(self.root).st_dev != before:
                    return
        raise Unmountable("the device number stays what it is")

    def close(self):
        self.unmount()
        if self._under is not None:
            self._under.close()


def reuse_inode(path, tries=400):
    """Deletes `path` and creates it anew until it has the inode number it had; tells whether it
    has.  xfs frees an inode a moment after the last name went, so this takes its time."""
    number = os.stat(path).st_ino
    os.unlink(path)
    spares = []
    try:
        for n in range(tries):
            with open(path, "wb"):
                pass
            if os.stat(path).st_ino == number:
                return True
            spares.append(f"{path}.spare{n}")
            os.rename(path, spares[-1])         # keeps it busy: the next one is another
            if n % 50 == 49:
                time.sleep(0.05)
    finally:
        for name in spares:
            os.unlink(name)
    with open(path, "wb"):
        pass
    return False
