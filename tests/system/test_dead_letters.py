"""What policy sets aside: kept on disk with the reason, before it counts as dealt with."""
import base64
import json
import time

import pytest

from harness import eventually, flow

CSV = {"format": "csv", "fields": ["q", "n", "text"], "on_mismatch": "dead"}


def letters(agent, stream="s1"):
    """All dead letters of a destination, in the order in which they were written."""
    found = []
    for segment in sorted((agent.state_dir / "dead" / stream).glob("dead-*.log")):
        for one in segment.read_text().splitlines()[1:]:
            found.append(json.loads(one))
    return found


def texts(agent):
    return [base64.b64decode(one["record_base64"]) for one in letters(agent)]


def test_what_does_not_match_is_kept_with_the_reason(logs, agent, arrived):
    agent.configure(flow(logs / "*.log", parse=CSV)).start()
    (logs / "a.log").write_bytes(b"1,2,3\n1,2,3,4\n\"open\n4,5,6\n")
    assert [json.loads(one)["n"] for one in arrived(1)] == ["2"]
    time.sleep(2.5)                             # the quote might have been closed in a later line
    eventually(lambda: len(letters(agent)) == 2, what="two dead letters", alive=agent.alive)
    first, second = letters(agent)
    assert base64.b64decode(first["record_base64"]) == b"1,2,3,4"
    assert (first["flow"], first["file"], first["offset"], first["end"]) == \
        ("f", str(logs / "a.log"), 6, 14)
    assert first["reason"] == "has 4 columns, but there are 3 names"
    assert base64.b64decode(second["record_base64"]) == b"\"open\n4,5,6"
    assert second["reason"] == "has no closing quote"
    assert (agent.state_dir / "dead" / "s1").stat().st_mode & 0o777 == 0o700
    told = agent.complaints("set aside")
    assert len(told) == 1 and "has 4 columns" in told[0]
    agent.terminate()


def test_too_large_for_a_record(logs, agent, arrived):
    agent.configure(flow(logs / "*.log", on_oversize="dead")).start()
    (logs / "a.log").write_bytes(b"x" * 1_500_000 + b"\nshort\n")
    assert arrived(1) == [b"short"]
    eventually(lambda: letters(agent), what="a dead letter", alive=agent.alive)
    assert letters(agent)[0]["reason"] == "is larger than a record may be"
    assert letters(agent)[0]["end"] == 1_500_001
    assert set(texts(agent)[0]) == {ord("x")}
    agent.terminate()


def test_nothing_is_settled_before_it_is_durable(place, logs, agent):
    """The directory cannot be made: letters wait, then reading does, and it is said."""
    agent.configure(flow(logs / "*.log", parse=CSV))
    agent.state_dir.mkdir(exist_ok=True)
    (agent.state_dir / "dead").write_text("in the way")
    agent.start()
    (logs / "a.log").write_bytes(b"".join(b"bad,1,2,%d\n" % n for n in range(1000)))
    eventually(lambda: agent.complaints("dead letters of s1: cannot be written"), what="a word",
               alive=agent.alive)
    agent.kill()                                # nothing was settled …
    (agent.state_dir / "dead").unlink()
    agent.start()                               # … so everything is set aside now
    eventually(lambda: len(letters(agent)) >= 1000, what="the letters", alive=agent.alive)
    assert texts(agent) == [b"bad,1,2,%d" % n for n in range(1000)]
    agent.terminate()


def test_a_disk_that_comes_back_goes_on(logs, agent):
    agent.configure(flow(logs / "*.log", parse=CSV))
    agent.state_dir.mkdir(exist_ok=True)
    (agent.state_dir / "dead").write_text("in the way")
    agent.start()
    (logs / "a.log").write_bytes(b"".join(b"bad,1,2,%d\n" % n for n in range(1000)))
    eventually(lambda: agent.complaints("dead letters of s1: cannot be written"), what="a word",
               alive=agent.alive)
    (agent.state_dir / "dead").unlink()
    eventually(lambda: len(letters(agent)) >= 1000, what="the letters", alive=agent.alive)
    assert texts(agent) == [b"bad,1,2,%d" % n for n in range(1000)]
    agent.terminate()


@pytest.mark.long
def test_kill_in_the_middle(logs, agent, dice):
    """Every bad line is a letter at the end; some twice."""
    agent.configure(flow(logs / "*.log", parse=CSV)).start()
    count = 0
    with open(logs / "a.log", "ab", buffering=0) as file:
        for _ in range(8):
            for _ in range(50):
                file.write(b"".join(b"bad,1,2,%d\n" % n for n in range(count, count + 20)))
                count += 20
                time.sleep(0.002)
            time.sleep(dice.random() / 10)
            agent.kill()
            agent.start()
    eventually(lambda: len(set(texts(agent))) == count, what="all letters", alive=agent.alive)
    agent.terminate()
