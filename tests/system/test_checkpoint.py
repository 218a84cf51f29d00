"""Checkpoints that a disk has torn or changed: the start is never refused, nothing is lost."""
import time

import pytest

from harness import flow

FILES = 5


def journals(agent):
    found = [p for p in sorted((agent.state_dir / "checkpoint").rglob("*"))
             if p.is_file() and p.stat().st_size > 0 and "lock" not in p.name]
    assert found, "there is no checkpoint at all"
    return found


def torn_at_a_random_byte(path, dice):
    with open(path, "r+b") as file:
        file.truncate(dice.randrange(0, path.stat().st_size))


def bits_flipped(path, dice):
    data = bytearray(path.read_bytes())
    for _ in range(dice.choice((1, 1, 1, 5, 50))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def first_byte_flipped(path, dice):
    data = bytearray(path.read_bytes())
    data[0] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def zeros_at_the_end(path, dice):
    """What a file system that saved the length before the data leaves after a power cut."""
    data = path.read_bytes()
    keep = dice.randrange(0, len(data))
    path.write_bytes(data[:keep] + bytes(len(data) - keep))


def garbage_appended(path, dice):
    with open(path, "ab") as file:
        file.write(dice.randbytes(dice.randrange(1, 300)))


def a_line_twice(path, dice):
    some = path.read_bytes().splitlines(keepends=True)
    some.insert(dice.randrange(len(some)), dice.choice(some))
    path.write_bytes(b"".join(some))


def emptied(path, dice):
    path.write_bytes(b"")


def deleted(path, dice):
    path.unlink()


DAMAGE = [torn_at_a_random_byte, torn_at_a_random_byte, bits_flipped, bits_flipped, bits_flipped,
          first_byte_flipped, zeros_at_the_end, garbage_appended, a_line_twice, emptied, deleted]


@pytest.mark.parametrize("start,damages", [
    ("start", DAMAGE),
    ("end", [d for d in DAMAGE if d is not deleted]),     # no state is no damage: then end it is
], ids=["start", "end"])
def test_damaged(logs, agent, oracle, quill, wait_until_delivered, dice, start,
                 damages):
    """One agent's life with one accident after another.  Also with from = "end": a file whose
    offset was forgotten is read from its start then, for its end would be a loss."""
    agent.configure(flow(logs / "*.log", start=start)).start()
    quills = [quill(logs / f"{n}.log") for n in range(FILES)]
    time.sleep(0.2)
    for q in quills:
        q.write(100)
    wait_until_delivered()
    agent.terminate()
    for damage in damages:
        files = journals(agent)
        for path in files if damage is deleted else [dice.choice(files)]:
            damage(path, dice)
        for q in quills:                        # written while it is stopped: at stake
            q.write(20)
        try:
            agent.start()
            quills[0].write(5)
            wait_until_delivered()
        except AssertionError as error:
            raise AssertionError(f"after {damage.__name__}: {error}") from None
        agent.terminate()
    verdict = oracle.expect(duplicated=None)
    print(f"{len(damages)} accidents: {verdict}")


def test_torn_after_a_kill(logs, agent, oracle, writer, wait_until_delivered, dice):
    """kill -9 in the midst of work, and the last bytes of the journal did not reach the disk."""
    agent.configure(flow(logs / "*.log", records=100)).start()
    w = writer(logs / "app.log", rate=5000)
    for _ in range(8):
        time.sleep(dice.uniform(0.2, 1.3))
        agent.kill()
        newest = max(journals(agent), key=lambda p: p.stat().st_mtime_ns)
        with open(newest, "r+b") as file:
            size = newest.stat().st_size
            file.truncate(max(0, size - dice.randrange(0, min(size, 200) + 1)))
        agent.start()
    w.stop()
    wait_until_delivered()
    agent.terminate()
    oracle.expect(duplicated=None)


def test_an_undamaged_one_costs_nothing_after_damage(logs, agent, oracle, quill,
                                                     wait_until_delivered, dice):
    """After an accident the journal is whole again: the next restart sends nothing twice."""
    agent.configure(flow(logs / "*.log")).start()
    q = quill(logs / "app.log").write(1000)
    wait_until_delivered()
    agent.terminate()
    for path in journals(agent):
        bits_flipped(path, dice)
    agent.start()
    q.write(10)
    wait_until_delivered()
    agent.terminate()
    twice = oracle.verdict().duplicated
    for _ in range(3):
        agent.start()
        q.write(10)
        wait_until_delivered()
        agent.terminate()
    oracle.expect(duplicated=twice)
