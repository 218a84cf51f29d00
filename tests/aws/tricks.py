"""What faults do to an answer: its body is rewritten, or it leaves in a bad manner.

faults.py has the manual and decides when; here is how.  A rewriter takes a fault (a mapping of its
parameters), a body and the service's Words, and gives another body; a deliverer changes an Answer.
"""

import gzip
import json
import time
from email.utils import formatdate

# --- rewriters -----------------------------------------------------------------------------------


def _garbage(fault, body, words):
    return GARBAGE[fault["form"]](body)


GARBAGE = {
    "binary": lambda body: b"\x00\xff\xfe{]\x80 not what you asked for",
    "truncated": lambda body: body[:max(1, len(body) * 2 // 3)],
    "html": lambda body: b"<html><body>Welcome to the captive portal</body></html>",
    "empty": lambda body: b"",
    "trailing": lambda body: body + b'\n"Surprise":{}}',
    "twice": lambda body: body + b"\n" + body,
    "array": lambda body: b"[" + body + b"]",
    "null": lambda body: b"null",
    "error": lambda body: b'{"__type":"InternalFailure","message":"not in the status"}',
    "nested": lambda body: body[:-1] + b',"Surprise":' + b"[" * 10000 + b"]" * 10000 + b"}",
}


def _wrong_count(fault, body, words):
    members = json.loads(body)
    records = members.get(words.entries)
    if isinstance(records, list):
        wanted = max(0, len(records) + fault["delta"])
        members[words.entries] = (records + records[-1:] * wanted)[:wanted]
    return json.dumps(members).encode()


def _wrong_failed_count(fault, body, words):
    members = json.loads(body)
    if fault["form"] == "missing":
        members.pop(words.failed_count, None)
    else:
        members[words.failed_count] = {"zero": 0, "one": 1, "null": None,
                                       "text": "none"}[fault["form"]]
    return json.dumps(members).encode()


def _no_entries(fault, body, words):
    members = json.loads(body)
    if fault["form"] == "twice":
        again = json.dumps({words.entries: members.get(words.entries)}).encode()
        return again[:-1] + b"," + json.dumps(members).encode()[1:]
    members.pop(words.entries, None)
    if fault["form"] != "missing":
        members[words.entries] = {"null": None, "empty": [], "text": "[]"}[fault["form"]]
    return json.dumps(members).encode()


def _empty_ids(fault, body, words):
    members = json.loads(body)
    for record in members.get(words.entries) or []:
        if words.record_id in record:
            record[words.record_id] = {"empty": "", "null": None, "number": 1}[fault["form"]]
    return json.dumps(members).encode()


def _two_faced(_, body, words):
    members = json.loads(body)
    for record in members.get(words.entries) or []:
        record.setdefault(words.record_id, "4968040589664341205925299824173086209990511255018589")
    return json.dumps(members).encode()


def _mute(_, body, words):
    members = json.loads(body)
    members[words.entries] = [{} if "ErrorCode" in record else record
                              for record in members.get(words.entries) or []]
    return json.dumps(members).encode()


def _pad(fault, body, words):
    more = fault["bytes"] - len(body) - len(b',"Surprise":""')
    if more < 0:
        return body
    return body[:-1] + b',"Surprise":"' + b"x" * more + b'"}'


def _null_members(_, body, words):
    members = json.loads(body)
    members |= {name: None for name in (words.failed_count, "EncryptionType", "Surprise")
                if not members.get(name)}
    for record in members.get(words.entries) or []:
        for name in (words.record_id, "ShardId", "ErrorCode", "ErrorMessage", "Surprise"):
            record.setdefault(name, None)
    return json.dumps(members).encode()


_SURPRISES = {"": "", "A-Surprise": {"Records": [{"ErrorCode": "no", "deep": [[[{}]]]}],
                                     "RequestResponses": [{"ErrorCode": "no"}]},
              "Number": -1.5e300, "Truth": True, "Text": "\\\"\u2028\u00e9\U0001f600\x01]}"}


def _extra_members(_, body, words):
    members = json.loads(body)
    for record in members.get(words.entries) or []:
        known = dict(record)
        record.clear()
        record.update(_SURPRISES | known | {"Z-Surprise": [None, {"ShardId": "x"}]})
    return json.dumps(_SURPRISES | members | {"Z-Surprise": []}).encode()


REWRITERS = {"garbage": _garbage, "wrong_count": _wrong_count,
             "wrong_failed_count": _wrong_failed_count, "no_entries": _no_entries,
             "empty_ids": _empty_ids, "two_faced": _two_faced, "mute": _mute, "pad": _pad,
             "null_members": _null_members, "extra_members": _extra_members}

REWRITE_FORMS = {"garbage": GARBAGE,
                 "wrong_failed_count": ("zero", "one", "missing", "null", "text"),
                 "no_entries": ("missing", "null", "empty", "text", "twice"),
                 "empty_ids": ("empty", "null", "number")}


# --- deliverers ----------------------------------------------------------------------------------

def _slow(fault, answer):
    answer.manner.delay_ms += fault["delay_ms"]


def _slow_body(fault, answer):
    answer.manner.chunk_bytes = max(1, fault["chunk_bytes"])
    answer.manner.pause_ms = fault["pause_ms"]
    answer.manner.dribble_ms = fault["last_ms"]


def _hold(fault, answer):
    period = max(1.0, fault["period_ms"])
    answer.manner.delay_ms += period - time.monotonic() * 1000 % period


def _cut(fault, answer):
    answer.manner.cut_at = fault["at"]


def _reset_after_store(_, answer):
    answer.manner.reset = True


def _close_after_store(_, answer):
    answer.manner.hang_up = True


def _stall_after_store(_, answer):
    answer.manner.stall = True


def _retry_after(fault, answer):
    value = fault["ms"]
    if fault["date_s"] is not None:
        value = formatdate(time.time() + fault["date_s"], usegmt=True)
    answer.headers.append((fault["header"], value))


def _odd_status(fault, answer):
    answer.status = fault["status"]
    if answer.status == 204:            # has no body, says HTTP
        answer.body = b""


def _interim(fault, answer):
    answer.manner.interim = fault["status"]


def _chunked(fault, answer):
    answer.manner.chunked = max(1, fault["bytes"])


def _gzip(_, answer):
    answer.body = gzip.compress(answer.body)
    answer.headers.append(("Content-Encoding", "gzip"))


def _http10(_, answer):
    answer.manner.http10 = True


def _small_letters(_, answer):
    answer.manner.small = True


def _repeat_headers(_, answer):
    answer.manner.repeat = True


def _content_type(fault, answer):
    answer.content_type = fault["value"] or None


def _broken_head(fault, answer):
    answer.manner.head = fault["form"]


def _wrong_date(fault, answer):
    answer.date_offset = fault["offset_s"]


def _close(_, answer):
    answer.manner.close = True


def _silent_close(fault, answer):
    answer.manner.close_after_ms = fault["after_ms"]


DELIVERERS = {
    "slow": _slow, "slow_body": _slow_body, "hold": _hold, "cut": _cut,
    "reset_after_store": _reset_after_store, "close_after_store": _close_after_store,
    "stall_after_store": _stall_after_store, "retry_after": _retry_after,
    "odd_status": _odd_status, "interim": _interim, "chunked": _chunked, "gzip": _gzip,
    "http10": _http10, "small_letters": _small_letters, "repeat_headers": _repeat_headers,
    "content_type": _content_type, "broken_head": _broken_head, "wrong_date": _wrong_date,
    "close": _close, "silent_close": _silent_close}

# These need a good answer: what they promise is that the records were stored.
AFTER_STORE = ("cut", "reset_after_store", "close_after_store", "stall_after_store", "odd_status",
               "broken_head")
