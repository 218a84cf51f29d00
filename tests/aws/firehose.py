"""Data Firehose with Direct PUT, as far as a producer and its tests need it.

Limits and shapes: API reference 2015-08-04 and the project's wire reference.  What is accepted
stays in the store, in order of arrival; nothing is delivered to anywhere.
"""

import binascii
import json
import time
from base64 import b64encode
from os import urandom

import json11
from faults import record_message
from json11 import invalid, structure, text, whole, wrong_type
from messages import ServiceError, Words
from stream import Bucket

TARGET = "Firehose_20150804."
ACCOUNT = "123456789012"            # the account of AWS's documentation examples

RECORDS_MAX = 500                   # PutRecordBatch: records in a request
REQUEST_BYTES_MAX = 4 << 20         # PutRecordBatch: all data, raw
RECORD_BYTES_MAX = 1_024_000        # a record's data
NAME_PATTERN = "[a-zA-Z0-9_.-]+"
TYPES = ("DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource")
RECORD_ID_BYTES = 150               # of chance in a record's id: the service's have 220 letters

WORDS = Words(put="PutRecordBatch", failed_count="FailedPutCount", entries="RequestResponses",
              record_id="RecordId", throttled="ServiceUnavailableException", throttled_status=503)
SLOW_DOWN = "Slow down."


class StreamLimits:
    """What a delivery stream takes per second, all calls together; 0 is no limit."""

    def __init__(self, stream_bytes=0, stream_records=0, stream_requests=0):
        self.stream_bytes = stream_bytes
        self.stream_records = stream_records
        self.stream_requests = stream_requests


class DeliveryStream:
    """Its records have no shard and no key; the store's arrays hold zeros in their place."""

    def __init__(self, name, arn, limits, kind="DirectPut"):
        self.name = name
        self.arn = arn
        self.kind = kind
        self.created_s = time.time()
        self.limits = limits
        self.count = 0                  # records ever stored
        self._bytes, self._records, self._requests = Bucket(), Bucket(), Bucket()

    def describe_record(self, shard, place, second):
        """(shard, sequence number) as the control API tells them; Firehose has neither."""
        return "", str(place)

    def take_request(self):
        return self._requests.take(1, self.limits.stream_requests)

    def take_record(self, size):
        """True if the stream takes one more record of `size` bytes now."""
        if not self._records.has(1, self.limits.stream_records):
            return False
        return (self._bytes.take(size, self.limits.stream_bytes)
                and self._records.take(1, self.limits.stream_records))

    def describe(self):
        return {"DeliveryStreamName": self.name, "DeliveryStreamARN": self.arn,
                "DeliveryStreamStatus": "ACTIVE", "DeliveryStreamType": self.kind,
                "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"},
                "VersionId": "1", "CreateTimestamp": round(self.created_s, 3),
                "Destinations": [], "HasMoreDestinations": False}


class Firehose:
    """The service.  Calls are parsed in their own threads and stored one by one, under the lock
    of the store."""

    name = "firehose"           # also the service in a signature's scope
    error_form = "json"
    words = WORDS

    def __init__(self, region, store, faults, limits=None):
        self.region = region
        self.lock = store.lock
        self.limits = limits if limits is not None else StreamLimits()
        self.streams = {}
        self.failed_records = 0
        self._store = store
        self._faults = faults

    # --- what the endpoint asks -----------------------------------------------------------------

    def claims(self, request):
        return request.header("x-amz-target", "").startswith(TARGET)

    def operation(self, request):
        return json11.operation_of(request, TARGET, OPERATIONS)

    def signed(self, operation):
        return True

    def perform(self, request, operation):
        members = json11.members_of(request.body)
        answer = json11.answer_of(OPERATIONS[operation](self, members))
        if operation == WORDS.put and not answer.body.startswith(b'{"FailedPutCount":0,'):
            answer.outcome = "partial"
        return answer

    # --- delivery streams -----------------------------------------------------------------------

    def add_stream(self, name, kind="DirectPut"):
        _name({"DeliveryStreamName": name})
        with self.lock:
            if name in self.streams:
                raise ServiceError("ResourceInUseException", "Firehose %s under accountId %s "
                                   "already exists" % (name, ACCOUNT))
            arn = "arn:aws:firehose:%s:%s:deliverystream/%s" % (self.region, ACCOUNT, name)
            self.streams[name] = DeliveryStream(name, arn, self.limits, kind)

    def remove_stream(self, name):
        with self.lock:
            del self.streams[self._stream({"DeliveryStreamName": name}).name]

    def create_delivery_stream(self, members):
        kind = text(members, "DeliveryStreamType", choice=TYPES) or "DirectPut"
        self.add_stream(_name(members), kind)
        return {"DeliveryStreamARN": self._stream(members).arn}

    def delete_delivery_stream(self, members):
        self.remove_stream(_name(members))
        return {}

    def describe_delivery_stream(self, members):
        return {"DeliveryStreamDescription": self._stream(members).describe()}

    def list_delivery_streams(self, members):
        limit = whole(members, "Limit", 1, 10000, 10)
        start = text(members, "ExclusiveStartDeliveryStreamName", most=64, pattern=NAME_PATTERN)
        kind = text(members, "DeliveryStreamType", choice=TYPES)
        with self.lock:
            names = [name for name in sorted(self.streams) if (start is None or name > start)
                     and kind in (None, self.streams[name].kind)]
        return {"DeliveryStreamNames": names[:limit], "HasMoreDeliveryStreams": len(names) > limit}

    def _stream(self, members):
        name = _name(members)
        stream = self.streams.get(name)
        if stream is None:
            raise ServiceError("ResourceNotFoundException", "Firehose %s under account %s not "
                               "found." % (name, ACCOUNT))
        return stream

    # --- writing --------------------------------------------------------------------------------

    def put_record_batch(self, members):
        records = members.get("Records")
        if records is None:
            raise invalid(None, "records", "not be null")
        if not isinstance(records, list):
            raise wrong_type(records, "a List")
        if not records:
            raise invalid(records, "records", "have length greater than or equal to 1")
        if len(records) > RECORDS_MAX:
            raise invalid(records, "records",
                          "have length less than or equal to %d" % RECORDS_MAX)
        blobs = [_blob(entry, "records.%d.member" % place)
                 for place, entry in enumerate(records, 1)]
        if sum(map(len, blobs)) > REQUEST_BYTES_MAX:
            raise ServiceError("InvalidArgumentException", "Records size exceeds 4 MB limit")
        failed, entries = self._put(WORDS.put, self._writable(members), blobs)
        return ('{"FailedPutCount":%d,"Encrypted":false,"RequestResponses":[%s]}'
                % (failed, ",".join(entries))).encode()

    def put_record(self, members):
        blob = _blob(structure(members, "Record") or None, "record")
        failed, entries = self._put("PutRecord", self._writable(members), [blob])
        told = json.loads(entries[0])
        if failed:
            raise ServiceError(told["ErrorCode"], told["ErrorMessage"],
                               503 if told["ErrorCode"] == WORDS.throttled else 500)
        return told | {"Encrypted": False}

    def _writable(self, members):
        """The stream of a writing call, if it takes the call at all."""
        stream = self._stream(members)
        if stream.kind != "DirectPut":
            raise ServiceError("InvalidArgumentException", "This operation is not permitted on %s "
                               "delivery stream type." % stream.kind)
        with self.lock:
            if not stream.take_request():
                raise ServiceError(WORDS.throttled, SLOW_DOWN, WORDS.throttled_status)
        return stream

    def _put(self, operation, stream, blobs):
        """Stores what is not doomed and within budget: (failed, the answer's entries as text)."""
        doomed = self._faults.doom(self, operation, stream, blobs)
        entries, accepted, places = [], [], []
        # Ids of one call differ at their ends only: chance is dear, and nobody compares them.
        lot = b64encode(urandom(RECORD_ID_BYTES)).decode()
        with self.lock:
            for i, blob in enumerate(blobs):
                if i in doomed:
                    entries.append(_failure(*doomed[i], stream))
                elif not stream.take_record(len(blob)):
                    entries.append(_failure(WORDS.throttled, None, stream))
                else:
                    stream.count += 1
                    accepted.append(i)
                    places.append(stream.count)
                    entries.append('{"RecordId":"%s%016d"}' % (lot, stream.count))
            failed = len(blobs) - len(accepted)
            self.failed_records += failed
            if failed:
                blobs = [blobs[i] for i in accepted]
            self._store.append(stream, int(time.time() * 1000), blobs, [b""] * len(blobs),
                               [0] * len(blobs), places)
        return failed, entries


OPERATIONS = {
    "CreateDeliveryStream": Firehose.create_delivery_stream,
    "DeleteDeliveryStream": Firehose.delete_delivery_stream,
    "DescribeDeliveryStream": Firehose.describe_delivery_stream,
    "ListDeliveryStreams": Firehose.list_delivery_streams,
    "PutRecord": Firehose.put_record,
    "PutRecordBatch": Firehose.put_record_batch,
}


def _name(members):
    return text(members, "DeliveryStreamName", required=True, most=64, pattern=NAME_PATTERN)


def _blob(entry, where):
    """The data of a record."""
    if entry is None:
        raise invalid(None, where, "not be null")
    if not isinstance(entry, dict):
        raise wrong_type(entry, "a Structure")
    data = entry.get("Data")
    if data is None:
        raise invalid(None, where + ".data", "not be null")
    if not isinstance(data, str):
        raise wrong_type(data, "a Blob")
    try:
        blob = binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        raise ServiceError("SerializationException",
                           "Invalid base64 in '%s.data'" % where) from None
    if len(blob) > RECORD_BYTES_MAX:
        raise invalid(blob, where + ".data",
                      "have length less than or equal to %d" % RECORD_BYTES_MAX)
    return blob


def _failure(code, message, stream):
    return json.dumps({"ErrorCode": code, "ErrorMessage": record_message(
        code, message, "", stream.name, ACCOUNT)}, separators=(",", ":"))
