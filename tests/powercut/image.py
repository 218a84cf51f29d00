"""The machine that is to lose its power: Debian's kernel and an initramfs, made here.

The kernel and busybox are Debian's packages, downloaded and unpacked below build/, not installed:
this machine boots what it booted before.  The initramfs has busybox, guest.c, nosync.c, the agent
with its libraries, and its configuration.
"""
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
           "failover", "net_failover", "virtio_net")   # each after what it needs
DISK_MODULE = "virtio_blk"                              # when the machine wakes up
APPLETS = ("sh", "mount", "umount", "mkdir", "stty", "insmod", "ip", "sleep", "kill", "cat")
COMPILE = ("cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror")
KERNEL = "linux-image-cloud-amd64"


def run(*command, **more):
    """A command that must do well, and its output."""
    try:
        done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, **more)
    except FileNotFoundError:
        sys.exit(f"powercut: there is no {command[0]} here")
    if done.returncode != 0:
        sys.exit(f"powercut: {' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout


def download(package, folder):
    """Into a folder; with fresh lists if those that are there do not do."""
    for last in (False, True):
        done = subprocess.run(["apt-get", "download", package], cwd=folder, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode == 0:
            return
        if not last:
            run(*([] if os.geteuid() == 0 else ["sudo"]), "apt-get", "update")
    sys.exit(f"powercut: apt-get does not download {package}:\n{done.stdout}")


def unpacked(package, place):
    """A Debian package's files, in a directory of their own."""
    folder = place / package
    if not folder.is_dir():
        print(f"powercut: downloading {package}, which is unpacked and not installed", flush=True)
        fresh = place / f"{package}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        download(package, fresh)
        run("dpkg-deb", "-x", next(fresh.glob("*.deb")), fresh)
        next(fresh.glob("*.deb")).unlink()
        fresh.rename(folder)
    return folder


def kernel(place):
    """Debian's kernel for clouds: (vmlinuz, the directory of its modules)."""
    there = sorted(place.glob("linux-image-[0-9]*"))
    if there:
        folder = there[-1]
    else:
        depends = re.search(r"Depends: (linux-image-\S+)", run("apt-cache", "depends", KERNEL))
        if not depends:
            sys.exit(f"powercut: apt-cache knows no {KERNEL}; run apt-get update")
        folder = unpacked(depends.group(1), place)
    return next(folder.glob("boot/vmlinuz-*")), next(folder.glob("lib/modules/*"))


class Archive:
    """A cpio archive of the "newc" format, which the kernel unpacks."""

    def __init__(self):
        self.parts = []
        self.known = set()

    def add(self, name, data=b"", mode=stat.S_IFREG | 0o644):
        parent = name.rpartition("/")[0]
        if parent and parent not in self.known:
            self.add(parent, mode=stat.S_IFDIR | 0o755)
        self.known.add(name)
        fields = (len(self.known), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + name.encode() + b"\0"
        self.parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def program(self, name, path):
        self.add(name, pathlib.Path(path).read_bytes(), stat.S_IFREG | 0o755)

    def link(self, name, target):
        self.add(name, target.encode(), stat.S_IFLNK | 0o777)

    def write(self, path):
        self.add("TRAILER!!!")
        path.write_bytes(b"".join(self.parts))


def libraries(program):
    """Where the program's libraries are, its loader too."""
    return re.findall(r"(/\S+) \(0x", run("ldd", program))


def initramfs(path, place, modules, agent, config, pool):
    archive = Archive()
    archive.program("init", HERE / "init")
    archive.program("bin/busybox", unpacked("busybox-static", place) / "bin/busybox")
    for applet in APPLETS:
        archive.link(f"bin/{applet}", "busybox")
    run(*COMPILE, "-static", "-o", place / "guest", HERE / "guest.c", "-lz")
    archive.program("bin/guest", place / "guest")
    run(*COMPILE, "-shared", "-fPIC", "-o", place / "nosync.so", HERE / "nosync.c")
    archive.program("lib/nosync.so", place / "nosync.so")
    archive.program("bin/kinetail", agent)
    for library in libraries(agent):
        archive.program(library.lstrip("/"), library)
    for name in (*MODULES, DISK_MODULE):
        archive.add(f"modules/{name}.ko", next(modules.rglob(f"{name}.ko")).read_bytes())
    archive.add("modules/order", "".join(f"{name}.ko\n" for name in MODULES).encode())
    archive.add("etc/kinetail.conf", config.encode(), stat.S_IFREG | 0o600)
    archive.add("etc/pool", pool)
    for folder in ("proc", "sys", "dev"):
        archive.add(folder, mode=stat.S_IFDIR | 0o755)
    archive.add("dev/console", mode=stat.S_IFCHR | 0o600)
    archive.write(path)
