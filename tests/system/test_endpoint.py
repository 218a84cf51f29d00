"""The local endpoint of tests/aws does what it says: it is the yardstick of the other tests.

Each fault kind, each limit, each refusal of a signature is met once, through a real socket.
Standard library only; the signatures are made by the endpoint's own sigv4.py, whose canonical form
is checked against the published example below.
"""

import base64
import gzip
import hashlib
import http.client
import json
import pathlib
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from email.utils import parsedate_to_datetime

import pytest

ENDPOINT = pathlib.Path(__file__).resolve().parent.parent / "aws"
sys.path.append(str(ENDPOINT))

import sigv4                        # noqa: E402
from endpoint import Stats          # noqa: E402
from messages import Answer, Reading, Request   # noqa: E402
from server import Server           # noqa: E402

KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "token+of/a=session"
ALL_HASH_KEYS = 1 << 128
TARGETS = {"kinesis": "Kinesis_20131202.", "firehose": "Firehose_20150804."}


class Client:
    """One keep-alive connection to an endpoint, with a signer."""

    def __init__(self, port, tls=None):
        self.port = port
        self.tls = tls
        self.connect()

    def connect(self):
        if self.tls:
            self.http = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5,
                                                    context=self.tls)
        else:
            self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)

    def request(self, operation, body, key_id=KEY_ID, secret=SECRET, region="us-east-1",
                service="kinesis", to="kinesis", token=None, when=None, change=None):
        """Sends a signed call to `to`; `change(request)` may spoil it after signing."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        request = Request("POST", "/", [("host", "127.0.0.1:%d" % self.port),
                                        ("content-type", "application/x-amz-json-1.1"),
                                        ("x-amz-target", TARGETS[to] + operation)], body)
        sigv4.sign(request, key_id, secret, region, service, token, when)
        if change is not None:
            change(request)
        self.http.request("POST", "/", request.body, dict(request.headers))
        return self.http.getresponse()

    def raw(self, operation, body, **signing):
        """(status, headers, body)."""
        answer = self.request(operation, body, **signing)
        return answer.status, answer.headers, answer.read()

    def call(self, operation, body, **signing):
        """(status, members)."""
        status, _, body = self.raw(operation, body, **signing)
        return status, json.loads(body or b"null")

    def good(self, operation, **members):
        status, told = self.call(operation, members)
        assert status == 200, told
        return told

    def put(self, *lines, stream="s"):
        return self.call("PutRecords", put_body(*lines, stream=stream))

    def fire(self, *lines, stream="d", **members):
        """PutRecordBatch of Firehose."""
        records = [{"Data": base64.b64encode(line).decode()} for line in lines]
        return self.call("PutRecordBatch", {"DeliveryStreamName": stream, "Records": records}
                         | members, service="firehose", to="firehose")

    def hose(self, operation, **members):
        return self.call(operation, members, service="firehose", to="firehose")

    def control(self, method, path, value=None):
        self.http.request(method, "/_control/" + path,
                          None if value is None else json.dumps(value))
        answer = self.http.getresponse()
        body = answer.read()
        if answer.headers["Content-Type"] == "application/x-ndjson":
            return [json.loads(line) for line in body.splitlines()]
        assert answer.status == 200, body
        return json.loads(body)

    def stored(self, **query):
        parameters = "&".join("%s=%s" % pair for pair in query.items())
        return [base64.b64decode(record["data"])
                for record in self.control("GET", "records?" + parameters)]


def put_body(*lines, stream="s", keys="k"):
    return {"StreamName": stream, "Records": [
        {"Data": base64.b64encode(line).decode(), "PartitionKey": key}
        for line, key in zip(lines, keys if isinstance(keys, list) else [keys] * len(lines))]}


class Running:
    """The endpoint as a process."""

    def __init__(self, *arguments, tls=None):
        self.process = subprocess.Popen([sys.executable, str(ENDPOINT), "--port", "0", *arguments],
                                        stdout=subprocess.PIPE)
        self.told = json.loads(self.process.stdout.readline())
        self.tls = tls

    def client(self):
        return Client(self.told["port"], self.tls)

    def stop(self):
        self.process.terminate()
        self.process.stdout.close()
        return self.process.wait(5)


@pytest.fixture
def start():
    running = []

    def begin(*arguments, **options):
        running.append(Running(*arguments, **options))
        return running[-1]

    yield begin
    for one in running:
        assert one.stop() == 0


@pytest.fixture(scope="module")
def shared():
    one = Running("--stream", "s", "--stream", "wide:4", "--stream", "free:2:auto",
                  "--delivery-stream", "d",
                  "--key", "%s:%s" % (KEY_ID, SECRET), "--key", "ASIAEXAMPLE:secret:" + TOKEN,
                  "--seed", "7")
    yield one
    assert one.stop() == 0


@pytest.fixture
def client(shared):
    """A connection to the shared endpoint, which is well behaved and empty before each test."""
    one = shared.client()
    one.control("DELETE", "faults")
    one.control("DELETE", "records")
    one.control("DELETE", "stats")
    return one


# --- signatures ----------------------------------------------------------------------------------

def test_the_signer_agrees_with_the_published_example():
    """`post-vanilla` of the AWS signature suite."""
    request = Request("POST", "/", [("host", "example.amazonaws.com")])
    sigv4.sign(request, KEY_ID, SECRET, "us-east-1", "service", when=1440938160)
    assert request.headers[-1][1].endswith(
        "Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b")


def drop(name):
    def change(request):
        request.headers = [header for header in request.headers if header[0] != name]
    return change


def replace(name, old, new):
    def change(request):
        request.headers = [(n, v.replace(old, new) if n == name else v)
                           for n, v in request.headers]
    return change


def set_body(request):
    request.body += b" "


def unsign(name):
    return replace("authorization", name + ";", "")


SIGNATURES = [
    ("good", {}, None, ""),
    ("temporary key", {"key_id": "ASIAEXAMPLE", "secret": "secret", "token": TOKEN}, None, ""),
    ("not signed", {"change": drop("authorization")},
     "MissingAuthenticationTokenException", "Missing Authentication Token"),
    ("no date", {"change": drop("x-amz-date")}, "IncompleteSignatureException", "'X-Amz-Date'"),
    ("bad date", {"change": replace("x-amz-date", "T", " ")},
     "IncompleteSignatureException", "basic format"),
    ("no signature", {"change": replace("authorization", "Signature=", "Sig=")},
     "IncompleteSignatureException", "requires 'Signature' parameter"),
    ("other algorithm", {"change": replace("authorization", "HMAC-SHA256", "HMAC-MD5")},
     "IncompleteSignatureException", "Unsupported AWS 'algorithm'"),
    ("short credential", {"change": replace("authorization", "/aws4_request", "")},
     "IncompleteSignatureException", "exactly 5 slash-delimited"),
    ("unknown key", {"key_id": "AKIDNOBODY"}, "UnrecognizedClientException", "invalid."),
    ("token missing", {"key_id": "ASIAEXAMPLE", "secret": "secret"},
     "UnrecognizedClientException", "invalid."),
    ("token wrong", {"key_id": "ASIAEXAMPLE", "secret": "secret", "token": "x"},
     "UnrecognizedClientException", "invalid."),
    ("token of nobody", {"token": TOKEN}, "UnrecognizedClientException", "invalid."),
    ("wrong secret", {"secret": "x"}, "InvalidSignatureException", "The Canonical String"),
    ("other body", {"change": set_body}, "InvalidSignatureException", "does not match"),
    ("wrong region", {"region": "eu-west-1"}, "InvalidSignatureException", "'eu-west-1'"),
    ("wrong service", {"service": "firehose"},
     "InvalidSignatureException", "correct service: 'kinesis'"),
    ("host not signed", {"change": unsign("host")}, "InvalidSignatureException", "'Host'"),
    ("target not signed", {"change": replace("authorization", ";x-amz-target", "")},
     "InvalidSignatureException", "not signed: x-amz-target"),
    ("type not signed", {"change": unsign("content-type")},
     "InvalidSignatureException", "not signed: content-type"),
    ("other host", {"change": replace("host", "127.0.0.1", "localhost")},
     "InvalidSignatureException", "does not match"),
]


@pytest.mark.parametrize("signing,code,words", [story[1:] for story in SIGNATURES],
                         ids=[story[0] for story in SIGNATURES])
def test_signature(client, signing, code, words):
    status, told = client.call("PutRecords", put_body(b"x"), **signing)
    if code is None:
        assert status == 200, told
        return
    assert (status, told["__type"]) == (400, code)
    assert words in told["message"]
    assert client.stored() == []
    assert client.control("GET", "stats")["signature_failures"] == 1


@pytest.mark.parametrize("off,words", [(-299, None), (299, None), (-310, "Signature expired: "),
                                       (310, "Signature not yet current: ")])
def test_the_window_of_the_clock(client, off, words):
    status, told = client.call("ListStreams", {}, when=time.time() + off)
    assert status == (400 if words else 200)
    if words:
        assert told["__type"] == "InvalidSignatureException" and told["message"].startswith(words)


def test_the_clock_of_the_service_can_be_moved(client):
    client.control("POST", "clock", {"offset_s": 7200})
    try:
        status, headers, _ = client.raw("ListStreams", {})
        told = parsedate_to_datetime(headers["Date"]).timestamp()
        assert status == 400 and abs(told - time.time() - 7200) < 3
        assert client.call("ListStreams", {}, when=told)[0] == 200
    finally:
        client.control("POST", "clock", {"offset_s": 0})


def test_keys_come_go_and_expire(client):
    signing = {"key_id": "ASIANEW", "secret": "n", "token": "t"}
    client.control("POST", "keys", {"id": "ASIANEW", "secret": "n", "token": "t"})
    assert client.call("ListStreams", {}, **signing)[0] == 200
    client.control("POST", "keys", {"id": "ASIANEW", "secret": "n", "token": "t", "expired": True})
    assert client.call("ListStreams", {}, **signing)[1]["__type"] == "ExpiredTokenException"
    client.control("DELETE", "keys?id=ASIANEW")
    assert client.call("ListStreams", {}, **signing)[1]["__type"] == "UnrecognizedClientException"


# --- writing and reading -------------------------------------------------------------------------

def read_all(client, stream, shard, **start):
    """The records of a shard, through its iterators, three at a time."""
    start = start or {"ShardIteratorType": "TRIM_HORIZON"}
    iterator = client.good("GetShardIterator", StreamName=stream, ShardId=shard, **start)
    records, iterator = [], iterator["ShardIterator"]
    while True:
        told = client.good("GetRecords", ShardIterator=iterator, Limit=3)
        records += told["Records"]
        iterator = told["NextShardIterator"]
        if not told["Records"] or iterator is None:
            return records


def test_what_is_put_can_be_read_back(client):
    lines = [b"line %d" % i for i in range(50)] + [b"", bytes(range(256))]
    keys = ["key-%d" % i for i in range(50)] + ["\u00e9\u20ac", "\U0001f600" * 128]
    status, told = client.call("PutRecords", put_body(*lines, stream="wide", keys=keys))
    assert (status, told["FailedRecordCount"]) == (200, 0)
    found = {}
    for i in range(4):
        shard = "shardId-%012d" % i
        records = read_all(client, "wide", shard)
        numbers = [int(record["SequenceNumber"]) for record in records]
        assert numbers == sorted(set(numbers)) and all(len(str(n)) == 56 for n in numbers)
        found |= {record["PartitionKey"]: (record, shard) for record in records}
        again = read_all(client, "wide", shard, ShardIteratorType="AFTER_SEQUENCE_NUMBER",
                         StartingSequenceNumber=str(numbers[1]))
        assert again == records[2:]
    for line, key, entry in zip(lines, keys, told["Records"]):
        record, shard = found[key]
        assert base64.b64decode(record["Data"]) == line
        assert entry == {"SequenceNumber": record["SequenceNumber"], "ShardId": shard}
        owner = int.from_bytes(hashlib.md5(key.encode()).digest(), "big") * 4 // ALL_HASH_KEYS
        assert shard == "shardId-%012d" % owner
    assert client.stored(stream="wide") == lines


def test_explicit_hash_key_and_arn(client):
    records = [{"Data": "", "PartitionKey": "k", "ExplicitHashKey": str(i * ALL_HASH_KEYS // 4 - 1)}
               for i in range(1, 5)]
    told = client.good("PutRecords", Records=records,
                       StreamARN="arn:aws:kinesis:us-east-1:123456789012:stream/wide")
    assert [entry["ShardId"][-1] for entry in told["Records"]] == ["0", "1", "2", "3"]
    status, told = client.call("PutRecords", {
        "Records": records, "StreamARN": "arn:aws:kinesis:us-east-1:999999999999:stream/wide"})
    assert (status, told["__type"]) == (400, "ResourceNotFoundException")


def test_auto_streams_ignore_keys(client):
    told = client.good("PutRecords", StreamName="free", Records=[{"Data": "eA=="}] * 4)
    assert len({entry["ShardId"] for entry in told["Records"]}) == 2
    summary = client.good("DescribeStreamSummary", StreamName="free")["StreamDescriptionSummary"]
    assert summary["RecordDistributionStrategy"] == "AUTO"
    assert client.call("PutRecord", {"StreamName": "free", "Data": "", "PartitionKey": "k",
                                     "SequenceNumberForOrdering": "1"})[0] == 400


def test_life_of_a_stream(client):
    status, _, body = client.raw("CreateStream", {"StreamName": "brief", "ShardCount": 3})
    assert (status, body) == (200, b"")
    assert "brief" in client.good("ListStreams")["StreamNames"]
    client.put(b"before", stream="brief")
    assert client.raw("SplitShard", {"StreamName": "brief", "ShardToSplit": "shardId-000000000001",
                                     "NewStartingHashKey": str(ALL_HASH_KEYS // 2)})[0] == 200
    assert client.raw("MergeShards", {
        "StreamName": "brief", "ShardToMerge": "shardId-000000000000",
        "AdjacentShardToMerge": "shardId-000000000003"})[0] == 200
    page = client.good("ListShards", StreamName="brief", MaxResults=2,
                       ShardFilter={"Type": "AT_LATEST"})
    rest = client.good("ListShards", NextToken=page["NextToken"])
    shards = page["Shards"] + rest["Shards"]
    ranges = sorted((int(s["HashKeyRange"]["StartingHashKey"]),
                     int(s["HashKeyRange"]["EndingHashKey"])) for s in shards)
    assert len(ranges) == 3 and "NextToken" not in rest
    assert ranges[0][0] == 0 and ranges[-1][1] == ALL_HASH_KEYS - 1
    assert all(a[1] + 1 == b[0] for a, b in zip(ranges, ranges[1:]))
    both = {"NextToken": page["NextToken"], "StreamName": "brief"}
    assert client.call("ListShards", both)[0] == 400
    shards = client.good("ListShards", StreamName="brief")["Shards"]
    assert len(shards) == 6
    assert sum("EndingSequenceNumber" in s["SequenceNumberRange"] for s in shards) == 3
    assert client.raw("DeleteStream", {"StreamName": "brief"})[0] == 200
    assert client.put(b"after", stream="brief")[1]["__type"] == "ResourceNotFoundException"


def test_put_record(client):
    told = client.good("PutRecord", StreamName="s", Data="aGVsbG8K", PartitionKey="a")
    assert set(told) == {"ShardId", "SequenceNumber", "EncryptionType"}
    assert client.stored() == [b"hello\n"]


# --- limits --------------------------------------------------------------------------------------

def one_record(**members):
    return {"StreamName": "s", "Records": [{"Data": "eA==", "PartitionKey": "k"} | members]}


MIB = 1 << 20
LIMITS = [
    ("500 records", put_body(*[b"x"] * 500), None),
    ("501 records", put_body(*[b"x"] * 501), "ValidationException"),
    ("no records", {"StreamName": "s", "Records": []}, "ValidationException"),
    ("records missing", {"StreamName": "s"}, "ValidationException"),
    ("no stream", {"Records": [{"Data": "", "PartitionKey": "k"}]}, "InvalidArgumentException"),
    ("stream missing", put_body(b"x", stream="nobody"), "ResourceNotFoundException"),
    ("stream name", put_body(b"x", stream="a/b"), "ValidationException"),
    ("largest record", put_body(b"x" * (MIB - 1)), None),
    ("record too large", put_body(b"x" * MIB), "InvalidArgumentException"),
    ("largest request", put_body(*[b"x" * (MIB - 1)] * 10), None),
    ("request too large", put_body(*[b"x" * (MIB - 1)] * 10, b""), "InvalidArgumentException"),
    ("longest key", put_body(b"x", keys="\u20ac" * 256), None),
    ("key too long", put_body(b"x", keys="x" * 257), "ValidationException"),
    ("key of 258 units", put_body(b"x", keys="\U0001f600" * 129), "ValidationException"),
    ("empty key", put_body(b"x", keys=""), "ValidationException"),
    ("key missing", one_record(PartitionKey=None), "ValidationException"),
    ("key a number", one_record(PartitionKey=1), "SerializationException"),
    ("half a surrogate", one_record(PartitionKey="\ud83d"), "SerializationException"),
    ("data missing", one_record(Data=None), "ValidationException"),
    ("data unpadded", one_record(Data="eA"), "SerializationException"),
    ("data in URL alphabet", one_record(Data="-_8="), "SerializationException"),
    ("largest hash key", one_record(ExplicitHashKey=str(ALL_HASH_KEYS - 1)), None),
    ("hash key too large", one_record(ExplicitHashKey=str(ALL_HASH_KEYS)),
     "InvalidArgumentException"),
    ("hash key with zero", one_record(ExplicitHashKey="007"), "ValidationException"),
    ("dry run", put_body(b"x") | {"DryRun": True}, "DryRunOperationException"),
    ("unknown members", put_body(b"x") | {"Surprise": [1]}, None),
    ("not JSON", b'{"StreamName":"s",', "SerializationException"),
    ("not UTF-8", b'{"StreamName":"\xff"}', "SerializationException"),
    ("not an object", b"[]", "SerializationException"),
    ("NaN", b'{"StreamName":NaN}', "SerializationException"),
]


@pytest.mark.parametrize("body,code", [story[1:] for story in LIMITS],
                         ids=[story[0] for story in LIMITS])
def test_limit(client, body, code):
    status, told = client.call("PutRecords", body)
    assert (status, told.get("__type")) == (400 if code else 200, code)
    assert len(client.stored()) == (0 if code else len(body["Records"]))


def test_larger_records_when_allowed(client):
    client.control("POST", "streams", {"name": "large", "max_record_kib": 2048})
    assert client.put(b"x" * (2 * MIB - 1), stream="large")[0] == 200
    assert client.put(b"x" * (2 * MIB), stream="large")[0] == 400


def test_a_body_too_large_is_413_and_says_nothing(client):
    status, headers, body = client.raw("PutRecords", b" " * (17 * MIB))
    assert (status, body) == (413, b"")


def test_unknown_operation_and_shape_of_errors(client):
    status, headers, body = client.raw("Fly", {})
    assert (status, json.loads(body)) == (400, {"__type": "UnknownOperationException"})
    assert headers["x-amzn-RequestId"] and headers["Date"]
    assert headers["Content-Type"] == "application/x-amz-json-1.1"


def test_budgets(start):
    client = start("--stream", "s:2", "--budgets").client()
    keys = ["a", "b"] * 250                     # their hashes lie in different halves
    told = client.good("PutRecords", **put_body(*[b"x" * 2000] * 500, keys=keys))
    assert told["FailedRecordCount"] == 0
    again = [client.good("PutRecords", **put_body(*[b"x" * 2000] * 500, keys="a"))
             for _ in range(2)]
    failed = [entry for told in again for entry in told["Records"] if "ErrorCode" in entry]
    assert sum(told["FailedRecordCount"] for told in again) == len(failed)
    assert 250 < len(failed) <= 750           # some seep in meanwhile
    assert failed[0] == {"ErrorCode": "ProvisionedThroughputExceededException",
                         "ErrorMessage": "Rate exceeded for shard shardId-000000000000 in stream s "
                                         "under account 123456789012."}
    assert client.good("PutRecords", **put_body(b"y", keys="b"))["FailedRecordCount"] == 0
    status, told = client.call("PutRecord", {"StreamName": "s", "PartitionKey": "a", "Data":
                                             base64.b64encode(b"x" * MIB)[:-4].decode()})
    assert (status, told["__type"]) == (400, "ProvisionedThroughputExceededException")
    client.control("POST", "budgets", {"shard_bytes": 0, "shard_records": 0})
    assert client.good("PutRecords", **put_body(*[b"x" * 2000] * 500))["FailedRecordCount"] == 0


def test_budget_of_one_shard(start):
    client = start("--stream", "s:2").client()
    client.control("POST", "budgets", {"stream": "s", "shard": 0, "shard_records": 10})
    told = client.good("PutRecords", **put_body(*[b"x"] * 100, keys=["a", "b"] * 50))
    assert 38 <= told["FailedRecordCount"] <= 40
    assert all("ErrorCode" not in entry for entry in told["Records"][1::2])


def test_a_stream_changes(client):
    client.control("POST", "streams", {"name": "soft"})
    try:
        assert client.put(b"x" * (2 * MIB - 1), stream="soft")[0] == 400
        client.control("POST", "stream", {"name": "soft", "max_record_kib": 2048, "auto": True})
        assert client.put(b"x" * (2 * MIB - 1), stream="soft")[0] == 200
        told = client.good("DescribeStreamSummary", StreamName="soft")["StreamDescriptionSummary"]
        assert (told["MaxRecordSizeInKiB"], told["RecordDistributionStrategy"]) == (2048, "AUTO")
        arn = told["StreamARN"]
        assert client.raw("UpdateMaxRecordSize", {"StreamARN": arn, "MaxRecordSizeInKiB": 10240}
                          )[0] == 200
        assert client.put(b"x" * (10 * MIB - 1), stream="soft")[0] == 200
    finally:
        client.control("DELETE", "streams?name=soft")
    assert client.put(b"x", stream="soft")[1]["__type"] == "ResourceNotFoundException"


# --- Firehose ------------------------------------------------------------------------------------

def test_what_is_fired_is_kept(client):
    lines = [b"line %d\n" % i for i in range(20)] + [b"", bytes(range(256))]
    status, told = client.fire(*lines)
    assert (status, told["FailedPutCount"], told["Encrypted"]) == (200, 0, False)
    ids = [entry.pop("RecordId") for entry in told["RequestResponses"]]
    assert len(set(ids)) == len(lines) and not any(told["RequestResponses"])
    assert client.stored(stream="d") == lines
    assert client.hose("PutRecord", DeliveryStreamName="d", Record={"Data": "eA=="})[0] == 200
    assert client.stored(stream="d") == lines + [b"x"]


def test_firehose_has_its_own_signature(client):
    body = {"DeliveryStreamName": "d", "Records": [{"Data": "eA=="}]}
    for service, target in (("kinesis", "firehose"), ("firehose", "kinesis")):
        status, told = client.call("PutRecordBatch" if target == "firehose" else "PutRecords",
                                   body, service=service, to=target)
        assert (status, told["__type"]) == (400, "InvalidSignatureException")
        assert "correct service: '%s'" % target in told["message"]


def fire_body(*lines, **members):
    return {"DeliveryStreamName": "d", "Records": [{"Data": base64.b64encode(line).decode()}
                                                   for line in lines]} | members


FIRE_LIMITS = [
    ("500 records", fire_body(*[b"x"] * 500), None),
    ("501 records", fire_body(*[b"x"] * 501), "ValidationException"),
    ("no records", fire_body(), "ValidationException"),
    ("records missing", {"DeliveryStreamName": "d"}, "ValidationException"),
    ("records null", fire_body(Records=None), "ValidationException"),
    ("records a text", fire_body(Records="x"), "SerializationException"),
    ("no stream", fire_body(b"x", DeliveryStreamName=None), "ValidationException"),
    ("stream missing", fire_body(b"x", DeliveryStreamName="nobody"), "ResourceNotFoundException"),
    ("stream name", fire_body(b"x", DeliveryStreamName="a/b"), "ValidationException"),
    ("long stream name", fire_body(b"x", DeliveryStreamName="d" * 65), "ValidationException"),
    ("largest record", fire_body(b"x" * 1024000), None),
    ("record too large", fire_body(b"x" * 1024001), "ValidationException"),
    ("largest request", fire_body(*[b"x" * 1000000] * 4, b"x" * 194304), None),
    ("request too large", fire_body(*[b"x" * 1000000] * 4, b"x" * 194305),
     "InvalidArgumentException"),
    ("data missing", fire_body(Records=[{}]), "ValidationException"),
    ("data a number", fire_body(Records=[{"Data": 1}]), "SerializationException"),
    ("data unpadded", fire_body(Records=[{"Data": "eA"}]), "SerializationException"),
    ("a record a text", fire_body(Records=["eA=="]), "SerializationException"),
    ("unknown members", fire_body(b"x", Surprise=[1]), None),
]


@pytest.mark.parametrize("body,code", [story[1:] for story in FIRE_LIMITS],
                         ids=[story[0] for story in FIRE_LIMITS])
def test_limit_of_firehose(client, body, code):
    status, told = client.hose("PutRecordBatch", **body)
    assert (status, told.get("__type")) == (400 if code else 200, code)
    assert len(client.stored()) == (0 if code else len(body["Records"]))


def test_life_of_a_delivery_stream(client):
    status, told = client.hose("CreateDeliveryStream", DeliveryStreamName="brief")
    assert status == 200 and told["DeliveryStreamARN"].endswith(":deliverystream/brief")
    assert client.hose("CreateDeliveryStream", DeliveryStreamName="brief")[1]["__type"] == \
        "ResourceInUseException"
    told = client.hose("DescribeDeliveryStream", DeliveryStreamName="brief")[1]
    assert told["DeliveryStreamDescription"]["DeliveryStreamType"] == "DirectPut"
    assert told["DeliveryStreamDescription"]["DeliveryStreamStatus"] == "ACTIVE"
    assert client.hose("ListDeliveryStreams")[1]["DeliveryStreamNames"] == ["brief", "d"]
    assert client.fire(b"x", stream="brief")[0] == 200
    client.control("DELETE", "delivery_streams?name=brief")
    assert client.fire(b"x", stream="brief")[1]["__type"] == "ResourceNotFoundException"
    client.control("POST", "delivery_streams", {"name": "brief", "kind": "KinesisStreamAsSource"})
    status, told = client.fire(b"x", stream="brief")
    assert (status, told["__type"]) == (400, "InvalidArgumentException")
    assert client.hose("DeleteDeliveryStream", DeliveryStreamName="brief") == (200, {})
    assert client.hose("Fly")[1]["__type"] == "UnknownOperationException"


def test_budgets_of_a_delivery_stream(start):
    client = start("--delivery-stream", "d", "--stream-records", "100").client()
    told = client.fire(*[b"x"] * 200)[1]
    failed = [entry for entry in told["RequestResponses"] if "ErrorCode" in entry]
    assert told["FailedPutCount"] == len(failed) and 90 <= len(failed) <= 100
    assert failed[0] == {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
    client.control("POST", "delivery_budgets", {"stream_requests": 2})
    told = [client.fire(b"x") for _ in range(4)]
    assert [status for status, _ in told[:2]] == [200, 200]
    assert (told[3][0], told[3][1]["__type"]) == (503, "ServiceUnavailableException")
    client.control("POST", "delivery_budgets", {"stream_bytes": 1000})
    assert client.fire(*[b"x" * 600] * 3)[1]["FailedPutCount"] == 2
    client.control("POST", "delivery_budgets", {})
    assert client.fire(*[b"x" * 600] * 3)[1]["FailedPutCount"] == 0


def test_faults_speak_of_firehose(client):
    trouble(client, "partial", indexes=[1])
    _, told = client.fire(b"a", b"b", b"c")
    assert told["FailedPutCount"] == 1 and told["RequestResponses"][1] == {
        "ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}
    assert client.stored() == [b"a", b"c"]
    trouble(client, "throttle")
    status, told = client.fire(b"d")
    assert (status, told["__type"]) == (503, "ServiceUnavailableException")
    trouble(client, "wrong_count", delta=2)
    assert len(client.fire(b"e")[1]["RequestResponses"]) == 3
    trouble(client, "null_members")
    _, told = client.fire(b"f")
    assert told["FailedPutCount"] is None and told["RequestResponses"][0]["ErrorCode"] is None
    trouble(client, "extra_members")
    assert "Z-Surprise" in client.fire(b"g")[1]["RequestResponses"][0]
    trouble(client, "error", pattern="poison", status=400, code="ValidationException")
    assert client.fire(b"h", b"poison")[1]["__type"] == "ValidationException"
    assert client.stored() == [b"a", b"c", b"e", b"f", b"g"]


# --- faults --------------------------------------------------------------------------------------

def trouble(client, kind, **more):
    client.control("POST", "faults", {"kind": kind, **more})


def test_partial_by_pattern(client):
    trouble(client, "partial", pattern="^bad", code="InternalFailure")
    status, told = client.put(b"good 1", b"bad 2", b"good 3")
    assert (status, told["FailedRecordCount"]) == (200, 1)
    assert told["Records"][1] == {"ErrorCode": "InternalFailure",
                                  "ErrorMessage": "Internal service failure."}
    assert client.stored() == [b"good 1", b"good 3"]
    assert client.control("GET", "stats")["outcomes"] == {"partial": 1}


def test_partial_by_rate_is_the_same_for_the_same_seed(start):
    def failed():
        client = start("--stream", "s", "--seed", "5", "--fault",
                       '{"kind": "partial", "rate": 0.3}').client()
        told = client.put(*[b"x"] * 200)[1]
        return ["ErrorCode" in entry for entry in told["Records"]]
    first = failed()
    assert 30 < sum(first) < 90 and first == failed()


def test_partial_by_place_with_count_and_skip(client):
    trouble(client, "partial", indexes=[0, 2], skip=1, count=1)
    counts = [client.put(b"a", b"b", b"c")[1]["FailedRecordCount"] for _ in range(4)]
    assert counts == [0, 2, 0, 0]


@pytest.mark.parametrize("form,body", [
    ("json", b'{"__type": "InternalFailure", "message": "Oh."}'), ("empty", b""),
    ("html", b"<h1>Oh.</h1>"), ("xml", b"<Code>InternalFailure</Code>"), ("header", b"{}")])
def test_error(client, form, body):
    trouble(client, "error", status=503, form=form, message="Oh.", count=1)
    status, headers, told = client.raw("PutRecords", put_body(b"x"))
    assert status == 503 and body in told
    assert (form == "header") == ("InternalFailure" in headers.get("x-amzn-ErrorType", ""))
    assert client.stored() == []
    assert client.put(b"x")[0] == 200


def test_error_only_for_an_operation_or_for_poison(client):
    trouble(client, "error", operation="ListStreams")
    assert client.put(b"x")[0] == 200
    assert client.call("ListStreams", {})[0] == 500
    trouble(client, "error", pattern="poison", status=400, code="ValidationException")
    assert client.put(b"a", b"b")[0] == 200
    assert client.put(b"a", b"poison")[1]["__type"] == "ValidationException"
    assert client.stored() == [b"x", b"a", b"b"]


@pytest.mark.parametrize("kind,code", [
    ("throttle", "ProvisionedThroughputExceededException"),
    ("expired_token", "ExpiredTokenException")])
def test_refusals(client, kind, code):
    trouble(client, kind)
    assert client.put(b"x")[1]["__type"] == code
    assert client.stored() == []


def test_retry_after_on_errors(client):
    client.control("POST", "faults", [{"kind": "retry_after", "ms": 250},
                                      {"kind": "throttle", "count": 1}])
    assert client.raw("PutRecords", put_body(b"x"))[1]["x-amz-retry-after"] == "250"
    assert client.raw("PutRecords", put_body(b"x"))[1]["x-amz-retry-after"] is None


@pytest.mark.parametrize("kind,stored", [("reset_before_store", []), ("reset_after_store", [b"x"])])
def test_resets(shared, client, kind, stored):
    trouble(client, kind)
    with pytest.raises(ConnectionResetError):
        client.put(b"x")
    assert shared.client().stored() == stored


@pytest.mark.parametrize("kind,stored", [("stall", []), ("stall_after_store", [b"x"])])
def test_stalls(shared, client, kind, stored):
    trouble(client, kind)
    client.http.timeout = 0.3
    client.http.close()
    with pytest.raises(socket.timeout):
        client.put(b"x")
    assert shared.client().stored() == stored


def test_cut(shared, client):
    trouble(client, "cut", at=0.5)
    with pytest.raises(http.client.IncompleteRead) as cut:
        client.put(b"x")
    assert cut.value.partial and cut.value.expected
    assert shared.client().stored() == [b"x"]


def test_slow_and_slow_body(client):
    trouble(client, "slow", delay_ms=200)
    began = time.monotonic()
    assert client.put(b"x")[0] == 200
    assert time.monotonic() - began > 0.2
    trouble(client, "slow_body", chunk_bytes=20, pause_ms=30)
    answer = client.request("PutRecords", put_body(b"x"))
    began = time.monotonic()
    assert json.loads(answer.read())["FailedRecordCount"] == 0
    assert time.monotonic() - began > 0.1


@pytest.mark.parametrize("form", ["binary", "truncated", "html", "empty"])
def test_garbage(client, form):
    trouble(client, "garbage", form=form)
    status, _, body = client.raw("PutRecords", put_body(b"x"))
    assert status == 200
    with pytest.raises(ValueError):
        json.loads(body)
    assert client.stored() == [b"x"]


@pytest.mark.parametrize("delta,count", [(-1, 1), (1, 3)])
def test_wrong_count(client, delta, count):
    trouble(client, "wrong_count", delta=delta)
    assert len(client.put(b"x", b"y")[1]["Records"]) == count
    assert client.stored() == [b"x", b"y"]


def test_null_and_extra_members(client):
    client.control("POST", "faults", [{"kind": "null_members"},
                                      {"kind": "partial", "indexes": [1]}])
    _, told = client.put(b"x", b"y")
    assert told["EncryptionType"] == "NONE" and told["Surprise"] is None
    assert told["Records"][0]["ErrorCode"] is None and told["Records"][0]["SequenceNumber"]
    assert told["Records"][1]["SequenceNumber"] is None and told["Records"][1]["ErrorCode"]
    trouble(client, "extra_members")
    _, told = client.put(b"x")
    assert told["FailedRecordCount"] == 0 and told["Records"][0]["SequenceNumber"]
    assert "A-Surprise" in told and "Z-Surprise" in told["Records"][0]


def test_wrong_date(client):
    trouble(client, "wrong_date", offset_s=-3600)
    _, headers, _ = client.raw("PutRecords", put_body(b"x"))
    assert abs(parsedate_to_datetime(headers["Date"]).timestamp() + 3600 - time.time()) < 3


def test_close(client):
    trouble(client, "close")
    assert client.raw("PutRecords", put_body(b"x"))[1]["Connection"] == "close"
    client.put(b"y")                            # http.client connects anew
    assert client.control("GET", "stats")["connections"] >= 2


# The bodies of an answer to two records, of which the second failed.
BODIES = [
    ({"kind": "garbage", "form": "trailing"}, ValueError),
    ({"kind": "garbage", "form": "twice"}, ValueError),
    ({"kind": "garbage", "form": "array"}, list),
    ({"kind": "garbage", "form": "null"}, type(None)),
    ({"kind": "garbage", "form": "error"}, {"__type": "InternalFailure"}),
    ({"kind": "garbage", "form": "nested"}, RecursionError),
    ({"kind": "wrong_failed_count"}, {"count": 0}),
    ({"kind": "wrong_failed_count", "form": "missing"}, {"count": "absent"}),
    ({"kind": "wrong_failed_count", "form": "null"}, {"count": None}),
    ({"kind": "wrong_failed_count", "form": "text"}, {"count": "none"}),
    ({"kind": "no_entries"}, {"list": "absent"}),
    ({"kind": "no_entries", "form": "null"}, {"list": None}),
    ({"kind": "no_entries", "form": "empty"}, {"list": []}),
    ({"kind": "no_entries", "form": "text"}, {"list": "[]"}),
    ({"kind": "empty_ids"}, {"id": ""}),
    ({"kind": "empty_ids", "form": "null"}, {"id": None}),
    ({"kind": "empty_ids", "form": "number"}, {"id": 1}),
    ({"kind": "pad", "bytes": 5000}, {"count": 1}),
]


@pytest.mark.parametrize("put,count,entries,entry_id", [
    ("put", "FailedRecordCount", "Records", "SequenceNumber"),
    ("fire", "FailedPutCount", "RequestResponses", "RecordId")], ids=["kinesis", "firehose"])
@pytest.mark.parametrize("fault,wanted", BODIES, ids=[
    "-".join(map(str, story[0].values())) for story in BODIES])
def test_bodies(client, fault, wanted, put, count, entries, entry_id):
    client.control("POST", "faults", [fault, {"kind": "partial", "indexes": [1]}])
    try:
        status, told = getattr(client, put)(b"x", b"y")
    except (ValueError, RecursionError) as error:
        assert isinstance(error, wanted)
    else:
        assert status == 200
        if not isinstance(wanted, dict):
            assert isinstance(told, wanted)
        else:
            (what, value), = wanted.items()
            where = told[entries][0] if what == "id" else told
            name = {"count": count, "list": entries, "id": entry_id}.get(what, what)
            assert where.get(name, "absent") == value
    assert client.stored() == [b"x"]


def test_pad_is_exact(client):
    trouble(client, "pad", bytes=1 << 20)
    assert len(client.raw("PutRecords", put_body(b"x"))[2]) == 1 << 20


def test_two_lists_and_two_faces(client):
    trouble(client, "no_entries", form="twice")
    assert client.raw("PutRecords", put_body(b"x"))[2].count(b'"Records"') == 2
    client.control("POST", "faults", [{"kind": "two_faced"}, {"kind": "partial", "indexes": [0]}])
    entry = client.put(b"y")[1]["Records"][0]
    assert entry["ErrorCode"] and entry["SequenceNumber"]
    client.control("POST", "faults", [{"kind": "mute"}, {"kind": "partial", "indexes": [0]}])
    told = client.put(b"y", b"z")[1]["Records"]
    assert told[0] == {} and told[1]["SequenceNumber"]
    client.control("DELETE", "faults")
    assert client.stored() == [b"x", b"z"]


def test_partial_by_key_and_by_shard(client):
    trouble(client, "partial", key="^b")
    _, told = client.call("PutRecords", put_body(b"1", b"2", b"3", keys=["a", "b", "bb"]))
    assert ["ErrorCode" in entry for entry in told["Records"]] == [False, True, True]
    trouble(client, "partial", shard=2)
    _, told = client.call("PutRecords", put_body(*[b"x"] * 100, stream="wide",
                                                 keys=["k%d" % i for i in range(100)]))
    for entry in told["Records"]:
        assert ("ErrorCode" in entry) == ("ShardId" not in entry)
        assert entry.get("ShardId") != "shardId-000000000002"
    assert told["FailedRecordCount"] > 5
    assert "shard shardId-000000000002 in stream wide" in next(
        entry["ErrorMessage"] for entry in told["Records"] if "ErrorCode" in entry)


def test_faults_of_one_stream(client):
    for kind in ("error", "cut", "partial", "garbage"):
        trouble(client, kind, stream="wide")
        assert client.put(b"x")[1]["FailedRecordCount"] == 0
    trouble(client, "error", stream="wide")
    assert client.put(b"x", stream="wide")[0] == 500
    arn = {"StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/wide"}
    assert client.call("PutRecords", arn | put_body(b"x") | {"StreamName": None})[0] == 500
    trouble(client, "error", stream="d", pattern="x")
    assert client.fire(b"x")[0] == 500 and client.put(b"x")[0] == 200


def test_error_forms(client):
    trouble(client, "error", status=400, code="KMSDisabledException", form="namespace")
    told = client.put(b"x")[1]["__type"]
    assert "#KMSDisabledException:http://" in told
    trouble(client, "error", form="garbled")
    with pytest.raises(UnicodeDecodeError):
        client.put(b"x")
    for form, body in (("plain", b"InternalFailure: "), ("array", b'["InternalFailure"]')):
        trouble(client, "error", form=form)
        assert client.raw("PutRecords", put_body(b"x"))[2].startswith(body)
    assert client.stored() == []


def test_retry_after_in_its_forms(client):
    down = {"kind": "error", "status": 503}
    client.control("POST", "faults", [{"kind": "retry_after", "header": "Retry-After", "ms": 7},
                                      down])
    assert client.raw("PutRecords", put_body(b"x"))[1]["Retry-After"] == "7"
    client.control("POST", "faults", [{"kind": "retry_after", "header": "Retry-After",
                                       "date_s": 60}, down])
    told = client.raw("PutRecords", put_body(b"x"))[1]["Retry-After"]
    assert 55 < parsedate_to_datetime(told).timestamp() - time.time() <= 60


def test_redirect_and_too_large(client):
    trouble(client, "redirect", status=307)
    status, headers, _ = client.raw("PutRecords", put_body(b"x"))
    assert (status, headers["Location"]) == (307, "/elsewhere")
    trouble(client, "too_large", bytes=1000)
    assert client.raw("PutRecords", put_body(b"x" * 1000))[::2] == (413, b"")
    assert client.put(b"x" * 100)[0] == 200
    assert client.stored() == [b"x" * 100]


def spoken(port, body=b"", wait=0.3):
    """What the endpoint says, byte for byte, to an unsigned call; and whether it hung up."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: Kinesis_20131202.ListStreams\r\n"
                     b"Content-Type: application/x-amz-json-1.1\r\nContent-Length: %d\r\n\r\n"
                     % len(body) + body)
        sock.settimeout(wait)
        got = b""
        try:
            while data := sock.recv(65536):
                got += data
        except socket.timeout:
            return got, False
        except ConnectionResetError:
            return got, "reset"
        return got, True


def test_hang_up(shared, client):
    for form, end in (("reset", "reset"), ("stall", False)):
        trouble(client, "hang_up", form=form)
        assert spoken(shared.told["port"], b"x" * 10) == (b"", end)
    trouble(client, "hang_up", form="close", at=1.0)
    assert spoken(shared.told["port"], b"x" * 10) == (b"", True)
    assert client.control("GET", "stats")["outcomes"] == {"hang_up": 3}


def test_an_error_before_the_body_is_read(shared, client):
    trouble(client, "early_error", status=413, form="empty")
    status, headers, body = client.raw("PutRecords", put_body(b"x" * 1000000))
    assert (status, headers["Connection"], body) == (413, "close", b"")
    assert shared.client().stored() == []


def test_a_body_is_read_slowly(client):
    trouble(client, "slow_read", per_s=300_000)
    began = time.monotonic()
    assert client.put(b"x" * 200_000)[0] == 200     # some of it may come along with the head
    assert time.monotonic() - began > 0.3
    assert client.stored() == [b"x" * 200_000]


def test_close_after_store(shared, client):
    trouble(client, "close_after_store")
    with pytest.raises(http.client.RemoteDisconnected):
        client.put(b"x")
    assert shared.client().stored() == [b"x"]


def test_hold_lets_answers_leave_together(shared, client):
    trouble(client, "hold", period_ms=300)
    ends = []
    for _ in range(2):
        client.put(b"x")
        ends.append(time.monotonic())
    assert 0.2 < ends[1] - ends[0] < 0.4


def test_a_dribble_has_an_end(client):
    trouble(client, "slow_body", chunk_bytes=1, pause_ms=50, last_ms=200)
    began = time.monotonic()
    assert client.put(b"x")[1]["FailedRecordCount"] == 0
    assert 0.15 < time.monotonic() - began < 2


MANNERS = [
    ({"kind": "interim", "status": 103}, b"HTTP/1.1 103 Early Hints\r\n", False),
    ({"kind": "chunked", "bytes": 10}, b"a;surprise=1\r\n", False),
    ({"kind": "http10"}, b"HTTP/1.0 ", True),
    ({"kind": "small_letters"}, b"\r\ncontent-length: ", False),
    ({"kind": "silent_close", "after_ms": 10}, b"HTTP/1.1 ", True),
    ({"kind": "content_type", "value": "text/html"}, b"\r\nContent-Type: text/html\r\n", False),
]


@pytest.mark.parametrize("fault,wanted,ends", MANNERS, ids=[m[0]["kind"] for m in MANNERS])
def test_manners(shared, client, fault, wanted, ends):
    client.control("POST", "faults", fault)
    got, hung_up = spoken(shared.told["port"])
    assert wanted in got and hung_up == ends
    assert b"onnection: close" not in got


def test_gzip_repeated_headers_and_odd_status(client):
    trouble(client, "gzip")
    _, headers, body = client.raw("PutRecords", put_body(b"x"))
    assert headers["Content-Encoding"] == "gzip" and b'"FailedRecordCount":0' in \
        gzip.decompress(body)
    trouble(client, "repeat_headers")
    assert len(client.raw("PutRecords", put_body(b"x"))[1].get_all("x-amzn-RequestId")) == 2
    trouble(client, "odd_status", status=204)
    assert client.raw("PutRecords", put_body(b"x"))[::2] == (204, b"")
    assert len(client.stored()) == 3


HEADS = {"nonsense": b"SSH-2.0", "huge": b"x" * 300000, "many": b"X-Surprise-9999: x",
         "no_colon": b"this is not a header", "long": b"Content-Length: 1",
         "short": b"Content-Length: ", "negative": b"Content-Length: -1",
         "two_lengths": b"Content-Length: 7\r\n", "no_status": b"HTTP/1.1 OK\r\n",
         "zeros": b"X-Surprise: \0\0"}


@pytest.mark.parametrize("form", HEADS)
def test_broken_heads(shared, client, form):
    trouble(client, "broken_head", form=form)
    with pytest.raises(AssertionError, match="unknown form"):
        trouble(client, "broken_head", form="none")
    body = json.dumps(put_body(b"x")).encode()
    request = Request("POST", "/", [("host", "127.0.0.1:%d" % shared.told["port"]),
                                    ("content-type", "application/x-amz-json-1.1"),
                                    ("x-amz-target", TARGETS["kinesis"] + "PutRecords")], body)
    sigv4.sign(request, KEY_ID, SECRET, "us-east-1", "kinesis")
    with socket.create_connection(("127.0.0.1", shared.told["port"]), 5) as sock:
        lines = ["%s: %s" % header for header in request.headers]
        lines.append("Content-Length: %d" % len(body))
        sock.sendall("\r\n".join(["POST / HTTP/1.1", *lines, "", ""]).encode() + body)
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert HEADS[form] in got and got.endswith(b"]}")
    assert shared.client().stored() == [b"x"]


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("when", ["at once", "at a call"])
def test_down(shared, client, when):
    idle = shared.client()
    idle.control("GET", "live")
    trouble(client, "down", for_ms=500, **({} if when == "at once" else {"skip": 1}))
    if when == "at a call":
        assert client.put(b"stored")[0] == 200
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            client.put(b"not stored")
    time.sleep(0.1)
    assert refused(shared.told["port"])
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        idle.control("GET", "live")
    deadline = time.monotonic() + 3
    while refused(shared.told["port"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    again = shared.client()
    assert again.stored() == ([] if when == "at once" else [b"stored"])
    assert again.put(b"back")[0] == 200


def test_down_again_while_it_is_down():
    """A shutdown(2) of a socket that does not listen yet makes it deaf when it does."""
    class Friendly:
        def receive(self, request):
            return Reading("", 0, "answer", answer=Answer(200))

    server = Server(Friendly(), Stats(), 0)
    server.start()
    try:
        server.go_down(0.3)
        time.sleep(0.15)
        server.go_down(0.3)
        deadline = time.monotonic() + 3
        while refused(server.port):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with socket.create_connection(("127.0.0.1", server.port), 1) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    finally:
        server.stop()


def test_faults_are_counted_and_end_by_themselves(client):
    trouble(client, "error", for_ms=200, operation="PutRecords")
    assert client.put(b"x")[0] == 500
    time.sleep(0.25)
    assert client.put(b"x")[0] == 200
    told = client.control("GET", "faults")[0]
    assert (told["kind"], told["fired"]) == ("error", 1)
    stats = client.control("GET", "stats")
    assert stats["faults_fired"] == {"error": 1}
    assert stats["outcomes"] == {"InternalFailure": 1, "ok": 1}


@pytest.mark.parametrize("fault", [{"kind": "flood"}, {"kind": "cut", "att": 1}, "cut",
                                   {"kind": "partial", "pattern": "("}, {"kind": "cut", "at": "x"},
                                   {"kind": "error", "form": "yaml"}])
def test_what_is_not_a_fault_is_refused(client, fault):
    with pytest.raises(AssertionError, match="error"):
        client.control("POST", "faults", fault)


def test_a_fault_never_hides_a_wrong_signature(client):
    trouble(client, "error")
    assert client.call("PutRecords", put_body(b"x"), secret="x")[1]["__type"] == \
        "InvalidSignatureException"


# --- the process ---------------------------------------------------------------------------------

def test_records_after_and_limit(client):
    for start in range(0, 30, 10):
        client.put(*[b"%d" % i for i in range(start, start + 10)])
    records = client.control("GET", "records?stream=s")
    numbers = [record["n"] for record in records]
    assert numbers == list(range(numbers[0], numbers[0] + 30))
    assert set(records[0]) == {"n", "stream", "shard", "seq", "key", "data", "t"}
    for after in range(-1, 30):
        if numbers[0] + after >= 0:
            assert client.stored(after=numbers[0] + after) == [b"%d" % i
                                                               for i in range(after + 1, 30)]
    assert client.stored(after=numbers[12], limit=9) == [b"%d" % i for i in range(13, 22)]
    assert client.control("GET", "stats")["body_bytes"] > 0


def test_record_file_and_keep_none(start, tmp_path):
    path = tmp_path / "records"
    running = start("--stream", "s:3", "--keep", "none", "--record-file", str(path))
    client = running.client()
    lines = [b"line %d\n" % i for i in range(500)]
    client.put(*lines)
    client.put(b"", b"last")
    raw, found = path.read_bytes(), []
    while raw:
        size, = struct.unpack_from("<I", raw)
        found.append(raw[4:4 + size])
        raw = raw[4 + size:]
    assert found == lines + [b"", b"last"]
    stats = client.control("GET", "stats")
    assert (stats["records_stored"], stats["bytes_stored"]) == (502, sum(map(len, found)))


def test_expect_100_and_two_requests_in_one_packet(shared, client):
    with socket.create_connection(("127.0.0.1", shared.told["port"]), 5) as sock:
        sock.sendall(b"POST /_control/live HTTP/1.1\r\nExpect: 100-continue\r\n"
                     b"Content-Length: 2\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        sock.sendall(b"{}GET /_control/live HTTP/1.1\r\n\r\n")
        got = b""
        while got.count(b"HTTP/1.1 ") < 2 or not got.endswith(b"{}\n"):
            got += sock.recv(65536)
        assert got.startswith(b"HTTP/1.1 404") and b"HTTP/1.1 200" in got


def test_tls(start, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert, "-days", "2"],
                   check=True, stderr=subprocess.DEVNULL)
    running = start("--stream", "s", "--tls-cert", cert, "--tls-key", key,
                    tls=ssl.create_default_context(cafile=cert))
    assert running.told["url"].startswith("https://")
    client = running.client()
    assert client.put(b"x" * 300000)[0] == 200
    trouble(client, "reset_after_store")
    with pytest.raises(ConnectionResetError):
        client.put(b"y")
    client = running.client()
    assert len(client.stored()) == 2
    trouble(client, "down", for_ms=200)
    time.sleep(0.1)
    assert refused(running.told["port"])


def test_help_and_mistakes():
    run = [sys.executable, str(ENDPOINT)]
    told = subprocess.run(run + ["--help"], capture_output=True, text=True, check=True).stdout
    assert "reset_after_store" in told and "DELETE records" in told
    for wrong in (["--fault", '{"kind": "flood"}'], ["--key", "x"], ["--stream", "s:0"],
                  ["--tls-cert", "x"]):
        assert subprocess.run(run + wrong, capture_output=True).returncode == 2


def test_it_ends_on_signals(start):
    for number in (signal.SIGTERM, signal.SIGINT):
        running = start()
        running.client().control("GET", "live")
        running.process.send_signal(number)
        assert running.process.wait(5) == 0
