"""Times in lines, as agent/record/when.h reads and writes them, against Python's datetime and
zoneinfo: a hundred thousand random times, and half as many texts that were damaged.

The reference reads with regular expressions made of the header's manual and lets datetime judge the
date, so that it shares nothing with what it is compared to."""
import functools
import os
import pathlib
import random
import re
import subprocess
import zoneinfo
from datetime import datetime, timedelta, timezone

import pytest

from harness import ROOT, SEED

PROGRAM = ROOT / os.environ.get("KT_BUILD", "build") / "unit" / "when"
COUNT = 100_000

UTC = timezone.utc
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LEAD_NS = 7 * 86400 * 10**9
NOW_FIRST_NS, NOW_LAST_NS = 315532800 * 10**9, 2524608000 * 10**9     # 1980 to 2050
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
ZONES = ["UTC", "+05:30", "-0330", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe",
         "Asia/Kolkata", "Africa/Casablanca", "Europe/Dublin", "America/Sao_Paulo", "Asia/Gaza",
         "Pacific/Apia", "America/St_Johns", "Antarctica/Troll", "Asia/Tehran", "Africa/Monrovia"]


def zone_of(name):
    if name[0] not in "+-":
        return zoneinfo.ZoneInfo(name)
    hours, minutes = int(name[1:3]), int(name[-2:])
    return timezone((-1 if name[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))


# -- the reference -----------------------------------------------------------------------------

def names(words):
    """Each of the words or its first three letters, the longer one if it fits."""
    return "|".join(f"{word}|{word[:3]}" for word in words)


OFFSET = r"(?P<offset>[Zz]|[+-]\d\d(?::?\d\d)?)"
CONVERSIONS = {
    "Y": r"(?P<year>\d{4})", "y": r"(?P<short_year>\d\d)", "m": r"(?P<month>\d{1,2}+)",
    "b": rf"(?P<month_name>(?i:{names(MONTHS)}))", "B": rf"(?P<month_name>(?i:{names(MONTHS)}))",
    "d": r" ?(?P<day>\d{1,2}+)", "e": r" ?(?P<day>\d{1,2}+)", "j": r"(?P<day_of_year>\d{1,3}+)",
    "a": rf"(?i:{names(DAYS)})", "A": rf"(?i:{names(DAYS)})",
    "H": r"(?P<hour>\d{1,2}+)", "I": r"(?P<hour12>\d{1,2}+)", "p": r"(?P<half>(?i:am|pm))",
    "M": r"(?P<minute>\d{1,2}+)", "S": r"(?P<second>\d{1,2}+)", "f": r"(?P<fraction>\d{1,9}+)",
    "z": OFFSET, "Z": r"(?P<offset>(?i:utc|gmt|z))", "s": r"(?P<epoch>-?\d++)", "%": "%",
    "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y", "F": "%Y-%m-%d",
}
MAYBE_FRACTION = r"(?:[.,](?P<fraction>\d++))?"
CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
WORDS = {
    "rfc3339": rf"(?P<year>\d{{4}})-(?P<month>\d\d)-(?P<day>\d\d)[Tt ]{CLOCK}{MAYBE_FRACTION}(?:{OFFSET})?",
    "epoch": r"(?P<epoch>-?\d++)" + MAYBE_FRACTION,
    "epoch_ms": r"(?P<epoch_ms>-?\d++)", "epoch_us": r"(?P<epoch_us>-?\d++)",
    "epoch_ns": r"(?P<epoch_ns>-?\d++)",
    "httpd": rf"(?P<day>\d\d)/{CONVERSIONS['b']}/(?P<year>\d{{4}}):{CLOCK}[ \t]+{OFFSET}",
    "apache_error": rf"{CONVERSIONS['a']}[ \t]+{CONVERSIONS['b']}[ \t]+{CONVERSIONS['d']}[ \t]+{CLOCK}{MAYBE_FRACTION}"
                    r"[ \t]+(?P<year>\d{4})",
    "syslog": rf"{CONVERSIONS['b']}[ \t]+{CONVERSIONS['d']}[ \t]+(?:(?P<year>\d{{4}})[ \t]+)?{CLOCK}{MAYBE_FRACTION}",
}
UNITS = {"epoch": 0, "epoch_ms": 3, "epoch_us": 6, "epoch_ns": 9}


@functools.cache
def pattern_of(form):
    def one(match):
        text = match.group()
        if text[0] != "%":
            return r"[ \t]+" if text.isspace() else re.escape(text)
        meaning = CONVERSIONS[text[1]]
        return re.sub(r"%.|[^%]", one, meaning) if text[1] in "TRDF" else meaning

    source = WORDS.get(form) or re.sub(r"%.|\s+|[^%\s]", one, form.strip())
    # Python learned possessive repeats in 3.11; those of digits only matter where digits follow.
    try:
        return re.compile(rf"[ \t]*(?:{source})[ \t]*", re.ASCII)
    except re.error:
        return re.compile(rf"[ \t]*(?:{source})[ \t]*".replace("}+", "}").replace("++", "+"), re.ASCII)


def read_offset(text):
    if text[0] not in "+-":
        return timedelta(0)
    hours, minutes = int(text[1:3]), int(text[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(text)
    return (-1 if text[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes)


def read_in_year(year, told, zone):
    """The second of UTC and the offset; ValueError or OverflowError if there is no such time."""
    day_of_year = told.get("day_of_year")
    if day_of_year is not None:
        date = datetime(year, 1, 1) + timedelta(days=int(day_of_year) - 1)
        if date.year != year:
            raise ValueError(day_of_year)
    else:
        name = told.get("month_name")
        month = [m[:3].lower() for m in MONTHS].index(name[:3].lower()) + 1 if name else int(told["month"])
        date = datetime(year, month, int(told["day"]))
    if told.get("hour12"):
        if not 1 <= int(told["hour12"]) <= 12:
            raise ValueError(told["hour12"])
        hour = int(told["hour12"]) % 12 + (12 if told["half"].lower() == "pm" else 0)
    else:
        hour = int(told["hour"])
    second = int(told.get("second") or 0)
    date = date.replace(hour=hour, minute=int(told.get("minute") or 0), second=min(second, 59))
    if second > 60:
        raise ValueError(second)
    carried = date + SECOND if second == 60 else date
    zone = timezone(read_offset(told["offset"])) if told.get("offset") else zone
    aware = carried.replace(tzinfo=zone)
    return (aware.astimezone(UTC) - EPOCH) // SECOND, int(aware.utcoffset().total_seconds())


def reference(pattern, zone, now_ns, text):
    """(utc_s, ns, digits, offset, had_zone), or None."""
    match = pattern.fullmatch(text)
    if not match:
        return None
    told = match.groupdict()
    digits = (told.get("fraction") or "")[:9]
    ns = int(digits.ljust(9, "0"))
    try:
        for unit, places in UNITS.items():
            if told.get(unit):
                value = told[unit]
                total = int(value.lstrip("-")) * 10**(9 - places) + ns
                total = -total if value[0] == "-" else total
                if not -62135596800 <= total // 10**9 <= 253402300799 or abs(int(value)) >= 1 << 64:
                    return None
                offset = read_offset(told["offset"]) if told.get("offset") else timedelta(0)
                return (total // 10**9, total % 10**9, places + len(digits),
                        int(offset.total_seconds()), True)
        had_zone = bool(told.get("offset"))
        if told.get("short_year"):
            year = int(told["short_year"])
            years = [year + (2000 if year < 69 else 1900)]
        elif told.get("year"):
            years = [int(told["year"])]
        else:
            this = (EPOCH + timedelta(microseconds=now_ns // 1000)).year
            years = range(this + 1, this - 10, -1)
        for year in years:
            try:
                utc_s, offset = read_in_year(year, told, zone)
            except ValueError:
                continue
            if len(years) == 1 or utc_s * 10**9 + ns <= now_ns + LEAD_NS:
                return utc_s, ns, len(digits), offset, had_zone
    except (ValueError, OverflowError):
        pass
    return None


# -- how what was read is written ----------------------------------------------------------------

def rfc3339(utc_s, ns, digits, zone):
    utc = EPOCH + timedelta(seconds=utc_s)
    try:
        there = utc.astimezone(zone)
        if there.utcoffset() % timedelta(minutes=1):
            there = utc
    except OverflowError:
        there = utc
    fraction = f".{ns:09}"[:digits + 1] if digits else ""
    text = there.isoformat()
    return text[:19] + fraction + ("Z" if not there.utcoffset() else text[19:])


def epoch(utc_s, ns, digits):
    total = utc_s * 10**9 + ns
    sign, total = ("-", -total) if total < 0 else ("", total)
    return f"{sign}{total // 10**9}" + (f".{total % 10**9:09}"[:digits + 1] if digits else "")


def expected(pattern, zone, now_ns, text):
    told = reference(pattern, zone, now_ns, text)
    if told is None:
        return "-"
    utc_s, ns, digits, offset, had_zone = told
    return " ".join(map(str, (utc_s, ns, digits, offset, int(had_zone),
                              rfc3339(utc_s, ns, digits, timezone(timedelta(seconds=offset))),
                              rfc3339(utc_s, ns, digits, zone),
                              epoch(utc_s, ns, digits), (utc_s * 10**9 + ns) // 10**6)))


# -- questions -----------------------------------------------------------------------------------

FORMATS = [*WORDS, "%Y-%m-%d %H:%M:%S", "%F %T.%f", "%FT%T.%f%z", "%Y%m%d%H%M%S%f",
           "%A, %d. %B %Y %I:%M:%S %p", "%a %e %b %H:%M:%S %Y", "%D %T %Z", "%y-%j %R",
           "[%d/%b/%Y:%T %z]", "%s.%f", "%s %z", "%b %e %T", "%m-%d %T.%f", "%j %H%M%S", "%d %b %H:%M %z"]


def any_case(dice, text):
    return dice.choice([str, str, str.lower, str.upper])(text)


def digits_of(dice, ns, least=1, most=9):
    return f"{ns:09}"[:dice.randint(least, most)]


ALL_YEARS = (-62135500000, 253402200000)
PLACE_YEARS = (86400, 4102444800 - 86400)   # beyond them, places have no rules here


def is_place(zone_name):
    return zone_name[0] not in "+-" and zone_name != "UTC"


def write(dice, form, zone_name, zone):
    """A time, written by the format."""
    utc_s = dice.choice([dice.randint(*(PLACE_YEARS if is_place(zone_name) else ALL_YEARS)),
                         dice.randint(946684800, 2051222400)])
    ns = dice.choice([0, dice.randrange(10**9), dice.randrange(1000) * 10**6])
    offset = dice.choice([0, 0, dice.randint(-1439, 1439)])
    there = EPOCH + timedelta(seconds=utc_s)
    if "offset" in pattern_of(form).groupindex:
        there += timedelta(minutes=offset)
    else:
        there = there.astimezone(zone).replace(tzinfo=None)
    sign, size = "+-"[offset < 0], abs(offset)
    offset_text = dice.choice([f"{sign}{size // 60:02}:{size % 60:02}", f"{sign}{size // 60:02}{size % 60:02}"])
    if offset % 60 == 0 and dice.random() < 0.5:
        offset_text = dice.choice(["Z", "z"]) if offset == 0 else offset_text[:3]
    fraction = digits_of(dice, ns)
    clock = f"{there.hour:02}:{there.minute:02}:{dice.choice([there.second] * 40 + [60]):02}"
    month = MONTHS[there.month - 1]
    if form == "rfc3339":
        tail = dice.choice(["", f".{fraction}", f",{fraction}", f".{fraction}{dice.randrange(10**6)}"])
        return (f"{there.year:04}-{there.month:02}-{there.day:02}{dice.choice('Tt ')}{clock}{tail}"
                f"{dice.choice([offset_text, ''])}")
    if form == "epoch":
        return dice.choice([f"{utc_s}", f"{utc_s}.{fraction}"])
    if form in UNITS:
        return str(utc_s * 10**UNITS[form] + ns // 10**(9 - UNITS[form]))
    if form == "httpd":
        return f"{there.day:02}/{any_case(dice, month[:3])}/{there.year:04}:{clock} {offset_text}"
    if form == "apache_error":
        return (f"{DAYS[there.weekday()][:3]} {month[:3]} {dice.choice(['02', ' 2'])[0]}"
                f"{there.day} {clock}{dice.choice(['', '.' + fraction])} {there.year:04}"
                if there.day < 10 else
                f"{DAYS[there.weekday()][:3]} {month[:3]} {there.day} {clock} {there.year:04}")
    if form == "syslog":
        day = dice.choice([f"{there.day:02}", f"{there.day:2}", f"{there.day}"])
        year = dice.choice(["", "", f"{there.year:04} "])
        return f"{any_case(dice, month[:3])} {day} {year}{clock}"

    number = dice.choice(["{:02}", "{:02}", "{}"]) if form != "%Y%m%d%H%M%S%f" and "%H%M" not in form else "{:02}"
    values = {
        "Y": lambda: f"{there.year:04}", "y": lambda: f"{there.year % 100:02}",
        "m": lambda: number.format(there.month), "b": lambda: any_case(dice, dice.choice([month, month[:3]])),
        "B": lambda: any_case(dice, month), "d": lambda: number.format(there.day),
        "e": lambda: f"{there.day:2}", "j": lambda: number.format(there.timetuple().tm_yday),
        "a": lambda: DAYS[there.weekday()][:3], "A": lambda: any_case(dice, DAYS[there.weekday()]),
        "H": lambda: number.format(there.hour), "I": lambda: number.format(there.hour % 12 or 12),
        "p": lambda: any_case(dice, "pm" if there.hour >= 12 else "am"),
        "M": lambda: number.format(there.minute), "S": lambda: number.format(int(clock[6:])),
        "f": lambda: fraction, "z": lambda: offset_text, "s": lambda: str(utc_s),
        "Z": lambda: any_case(dice, dice.choice(["UTC", "GMT", "Z"])), "%": lambda: "%",
    }
    for short in "TRDF":
        form = form.replace("%" + short, CONVERSIONS[short])
    return re.sub(r"%(.)", lambda match: values[match.group(1)](), form)


def damage(dice, text):
    """The text with one to three things wrong in it, or about as many that do no harm."""
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(text) + 1)
        text = dice.choice([
            lambda: text[:at] + text[at + 1:],
            lambda: text[:at] + dice.choice("0123456789") + text[at + 1:],
            lambda: text[:at] + dice.choice("0123456789 :-+.,TZ/x\x7f") + text[at:],
            lambda: text[:at],
            lambda: text[at:],
            lambda: text.swapcase(),
            lambda: dice.choice([" ", "  "]) + text + " ",
        ])() or "0"
    return text


def questions(dice, count):
    patterns = {form: pattern_of(form) for form in FORMATS}
    zones = {name: zone_of(name) for name in ZONES}
    while count > 0:
        form, name = dice.choice(FORMATS), dice.choice(ZONES)
        text = write(dice, form, name, zones[name])
        if count % 3 == 0:
            text = damage(dice, text)
        now_ns = dice.randint(NOW_FIRST_NS, NOW_LAST_NS)
        answer = expected(patterns[form], zones[name], now_ns, text)
        if answer != "-" and is_place(name) and not PLACE_YEARS[0] < int(answer.split()[0]) < PLACE_YEARS[1]:
            continue                                    # damage led out of them
        yield f"{form}\t{name}\t{now_ns}\t{text}", answer
        count -= 1


def gaps_and_folds(dice, count):
    """Local times within two hours of a change, in every zone that has one; found by asking Python."""
    zones = {}
    for name in sorted(zoneinfo.available_timezones()):
        if name.startswith("right/") or name in ("Factory", "localtime"):
            continue
        zones[name] = zone_of(name)
    changes = []
    for name, zone in zones.items():
        for _ in range(4):
            low = dice.randrange(0, 4102444800 - 200 * 86400)
            high = low + 180 * 86400
            before, after = (datetime.fromtimestamp(t, zone).utcoffset() for t in (low, high))
            if before == after:
                continue
            while high - low > 1:
                middle = (low + high) // 2
                if datetime.fromtimestamp(middle, zone).utcoffset() == before:
                    low = middle
                else:
                    high = middle
            changes.append((name, zone, high + int(before.total_seconds())))
    pattern = pattern_of("%F %T")
    for _ in range(count):
        name, zone, local_s = dice.choice(changes)
        local = datetime(1970, 1, 1) + timedelta(seconds=local_s + dice.choice([0, -1, 1, dice.randint(-7200, 7200)]))
        text = local.isoformat(sep=" ")
        yield f"%F %T\t{name}\t0\t{text}", expected(pattern, zone, 0, text)


def ask(pairs):
    """Puts all the questions; the first few answers that are not as expected."""
    pairs = list(pairs)
    if not pathlib.Path(PROGRAM).exists():
        pytest.fail(f"{PROGRAM} is not there: run make unit-programs", pytrace=False)
    done = subprocess.run([PROGRAM, "--answer"], input="".join(q + "\n" for q, _ in pairs).encode(),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    answers = done.stdout.decode().splitlines()
    assert len(answers) == len(pairs)
    wrong = [f"{q!r}: {a}\n    expected: {e}" for (q, e), a in zip(pairs, answers) if a != e]
    assert not wrong, f"KT_SEED={SEED}: {len(wrong)} of {len(pairs)}\n" + "\n".join(wrong[:10])
    return sum(e != "-" for _, e in pairs)


def test_times_are_read_and_written_as_python_does(dice):
    read = ask(questions(dice, COUNT * 3 // 2))         # a third of them damaged
    assert COUNT * 0.95 < read < COUNT * 1.45           # else the questions are too hard, or too easy


def test_every_zone_changes_when_python_says(dice):
    read = ask(gaps_and_folds(dice, COUNT // 3))
    assert read == COUNT // 3
