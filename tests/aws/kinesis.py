"""Kinesis Data Streams, as far as a producer and its tests need it.

Limits and shapes: API reference 2013-12-02 and the project's wire reference.  Everything is
ACTIVE at once.  PutRecords is the hot path: its answer is written as text, not built as objects.
"""

import base64
import binascii
import json
import re
import time
from bisect import bisect_left

import json11
from faults import record_message
from json11 import invalid, structure, text, truth, whole, wrong_type
from messages import ServiceError, Words
from stream import HASH_KEYS, MAX_RECORD_KIB, Limits, Stream, hash_of

TARGET = "Kinesis_20131202."
ACCOUNT = "123456789012"            # the account of AWS's documentation examples

RECORDS_MAX = 500                   # PutRecords: records in a request
REQUEST_BYTES_MAX = 10 << 20        # PutRecords: all data plus all partition keys, raw
DATA_BYTES_MAX = 10 << 20           # a record's data on any stream
KEY_UNITS_MAX = 256                 # a partition key, in UTF-16 code units
RECORD_KIB_MAX = 10240              # what MaxRecordSizeInKiB may be raised to
PAGE_MAX = 10000                    # ListShards, GetRecords, ListStreams
PAGE_SHARDS = 1000                  # ListShards: the default page
READ_BYTES_MAX = 10 << 20           # GetRecords: one answer
TOKEN_SECONDS = 300                 # life of NextToken and shard iterators
ON_DEMAND_SHARDS = 4

NAME_PATTERN = "[a-zA-Z0-9_.-]+"
ARN_PATTERN = r"arn:aws.*:kinesis:.*:\d{12}:stream/\S+"
HASH_PATTERN = r"0|([1-9]\d{0,38})"
SEQUENCE_PATTERN = r"0|([1-9]\d{0,128})"
ITERATOR_TYPES = ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST",
                  "AT_TIMESTAMP")
FILTER_TYPES = ("AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST",
                "AT_TIMESTAMP", "FROM_TIMESTAMP")


WORDS = Words(put="PutRecords", failed_count="FailedRecordCount", entries="Records",
              record_id="SequenceNumber", throttled="ProvisionedThroughputExceededException",
              throttled_status=400)


class Kinesis:
    """The service.  Calls are parsed in their own threads and stored one by one, under the lock
    of the store."""

    name = "kinesis"            # also the service in a signature's scope
    error_form = "json"
    words = WORDS

    def __init__(self, region, store, faults, limits=None):
        self.region = region
        self.lock = store.lock
        self.limits = limits if limits is not None else Limits()
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
        if operation == WORDS.put and not answer.body.startswith(b'{"FailedRecordCount":0,'):
            answer.outcome = "partial"
        return answer

    # --- streams --------------------------------------------------------------------------------

    def add_stream(self, name, shards, **options):
        with self.lock:
            if name in self.streams:
                raise ServiceError("ResourceInUseException", "Stream %s under account %s already "
                                   "exists." % (name, ACCOUNT))
            arn = "arn:aws:kinesis:%s:%s:stream/%s" % (self.region, ACCOUNT, name)
            self.streams[name] = Stream(name, arn, shards, self.limits, **options)

    def forget_records(self):
        with self.lock:
            self._store.clear()
            for stream in self.streams.values():
                for shard in stream.shards:
                    shard.forget()

    def create_stream(self, members):
        name = _name(members, required=True)
        mode = text(structure(members, "StreamModeDetails"), "StreamMode",
                    choice=("PROVISIONED", "ON_DEMAND")) or "PROVISIONED"
        strategy = text(members, "RecordDistributionStrategy",
                        choice=("AUTO", "USER_PARTITION_KEY"))
        if strategy is not None and mode != "ON_DEMAND":
            raise ServiceError("InvalidArgumentException", "RecordDistributionStrategy is only "
                               "supported for streams in ON_DEMAND mode.")
        shards = whole(members, "ShardCount", 1, 100000, ON_DEMAND_SHARDS,
                       required=mode == "PROVISIONED")
        self.add_stream(name, shards, mode=mode, auto=strategy == "AUTO",
                        max_record_kib=_record_kib(members, MAX_RECORD_KIB))

    def delete_stream(self, members):
        with self.lock:
            del self.streams[self._stream(members).name]

    def update_max_record_size(self, members):
        kib = _record_kib(members, None)
        if kib is None:
            raise invalid(None, "maxRecordSizeInKiB", "not be null")
        self._stream(members).max_record_kib = kib

    def describe_stream_summary(self, members):
        stream = self._stream(members)
        told = _description(stream) | {"OpenShardCount": len(stream.open_shards),
                                       "ConsumerCount": 0,
                                       "MaxRecordSizeInKiB": stream.max_record_kib}
        if stream.mode == "ON_DEMAND":
            told["RecordDistributionStrategy"] = "AUTO" if stream.auto else "USER_PARTITION_KEY"
        return {"StreamDescriptionSummary": told}

    def describe_stream(self, members):
        limit = whole(members, "Limit", 1, PAGE_MAX, 100)
        start = text(members, "ExclusiveStartShardId")
        stream = self._stream(members)
        shards = [s for s in list(stream.shards) if start is None or s.id > start]
        return {"StreamDescription": _description(stream) | {
            "Shards": [shard.describe() for shard in shards[:limit]],
            "HasMoreShards": len(shards) > limit}}

    def list_streams(self, members):
        limit = whole(members, "Limit", 1, PAGE_MAX, 100)
        start = text(members, "ExclusiveStartStreamName")
        token = text(members, "NextToken")
        if token is not None:
            start = _open_token(token, "ExpiredNextTokenException", "stream")["stream"]
        streams = [self.streams[name] for name in sorted(self.streams)
                   if start is None or name > start]
        page = streams[:limit]
        told = {"StreamNames": [stream.name for stream in page],
                "HasMoreStreams": len(streams) > limit,
                "StreamSummaries": [{name: value for name, value in _description(stream).items()
                                     if name in _SUMMARY_MEMBERS} for stream in page]}
        if told["HasMoreStreams"]:
            told["NextToken"] = _token(stream=page[-1].name)
        return told

    def change_stream(self, name, auto=None, max_record_kib=None):
        """What an administrator may change while records flow."""
        stream = self._stream({"StreamName": name})
        with self.lock:
            if max_record_kib is not None:
                stream.max_record_kib = _record_kib({"MaxRecordSizeInKiB": max_record_kib}, None)
            if auto is not None:
                stream.mode = "ON_DEMAND" if auto else stream.mode
                stream.auto = auto

    def limit_shard(self, name, index):
        """The limits of one shard, from now on its own, to be set."""
        with self.lock:
            shards = self._stream({"StreamName": name}).shards
            if not isinstance(index, int) or not 0 <= index < len(shards):
                raise ServiceError("InvalidArgumentException", "no such shard")
            limits = Limits()
            shards[index].budget.limits = limits
        return limits

    def remove_stream(self, name):
        self.delete_stream({"StreamName": name})

    # --- shards ---------------------------------------------------------------------------------

    def list_shards(self, members):
        limit = whole(members, "MaxResults", 1, PAGE_MAX, PAGE_SHARDS)
        token = text(members, "NextToken")
        if token is None:
            where = {"stream": None, "after": text(members, "ExclusiveStartShardId")}
            wanted = structure(members, "ShardFilter")
            if wanted:
                where["filter"] = text(wanted, "Type", required=True, choice=FILTER_TYPES)
                if where["filter"] == "AFTER_SHARD_ID":
                    where["after"] = text(wanted, "ShardId", required=True)
            stream = self._stream(members)
        else:
            for name in ("StreamName", "ExclusiveStartShardId", "ShardFilter",
                         "StreamCreationTimestamp"):
                if members.get(name) is not None:
                    raise ServiceError("InvalidArgumentException", "NextToken and %s cannot be "
                                       "provided together." % name)
            where = _open_token(token, "ExpiredNextTokenException", "stream")
            stream = self._stream({"StreamName": where["stream"]})
        return self._shard_page(stream, where, min(limit, PAGE_SHARDS))

    def _shard_page(self, stream, where, limit):
        with self.lock:
            shards = [shard for shard in stream.shards
                      if (where["after"] is None or shard.id > where["after"])
                      and (where.get("filter") != "AT_LATEST" or shard.closed_s is None)]
        told = {"Shards": [shard.describe() for shard in shards[:limit]]}
        if len(shards) > limit:
            told["NextToken"] = _token(**where | {"stream": stream.name,
                                                  "after": shards[limit - 1].id})
        return told

    def split_shard(self, members):
        at = _hash_key(text(members, "NewStartingHashKey", required=True, pattern=HASH_PATTERN),
                       "NewStartingHashKey")
        with self.lock:
            stream = self._stream(members)
            shard = self._open_shard(stream, text(members, "ShardToSplit", required=True))
            if not shard.first_hash < at < shard.last_hash:
                raise ServiceError("InvalidArgumentException", "NewStartingHashKey %d used in "
                                   "SplitShard() on shard %s in stream %s under account %s is not "
                                   "both greater than one plus the shard's StartingHashKey and "
                                   "less than the shard's EndingHashKey."
                                   % (at, shard.id, stream.name, ACCOUNT))
            stream.split(shard, at)

    def merge_shards(self, members):
        with self.lock:
            stream = self._stream(members)
            pair = [self._open_shard(stream, text(members, name, required=True))
                    for name in ("ShardToMerge", "AdjacentShardToMerge")]
            lower, upper = sorted(pair, key=lambda shard: shard.first_hash)
            if lower.last_hash + 1 != upper.first_hash:
                raise ServiceError("InvalidArgumentException", "Shards %s and %s in stream %s under"
                                   " account %s are not an adjacent pair of shards eligible for "
                                   "merging" % (pair[0].id, pair[1].id, stream.name, ACCOUNT))
            stream.merge(lower, upper)

    # --- writing --------------------------------------------------------------------------------

    def put_records(self, members):
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
        stream = self._stream(members)
        blobs, keys, hashes = _read_entries(records, stream.auto)
        _check_sizes(stream, blobs, keys)
        if truth(members, "DryRun"):
            raise _dry_run()
        failed, entries = self._put(WORDS.put, stream, blobs, keys, hashes)
        return ('{"FailedRecordCount":%d,"EncryptionType":"NONE","Records":[%s]}'
                % (failed, ",".join(entries))).encode()

    def put_record(self, members):
        ordering = text(members, "SequenceNumberForOrdering", pattern=SEQUENCE_PATTERN)
        stream = self._stream(members)
        if ordering is not None and stream.auto:
            raise ServiceError("InvalidArgumentException", "SequenceNumberForOrdering is not "
                               "supported for streams with record distribution strategy AUTO.")
        blobs, keys, hashes = _read_entries([members], stream.auto, one=True)
        _check_sizes(stream, blobs, keys)
        if truth(members, "DryRun"):
            raise _dry_run()
        failed, entries = self._put("PutRecord", stream, blobs, keys, hashes)
        told = json.loads(entries[0])
        if failed:
            raise ServiceError(told["ErrorCode"], told["ErrorMessage"],
                               500 if told["ErrorCode"].startswith("InternalFailure") else 400)
        return told | {"EncryptionType": "NONE"}

    def _put(self, operation, stream, blobs, keys, hashes):
        """Stores what is not doomed and within budget: (failed, the answer's entries as text)."""
        doomed = self._faults.doom(self, operation, stream, blobs, keys, hashes)
        entries, accepted, shards, places = [], [], [], []
        wall = time.time()
        with self.lock:
            first = self._store.records + 1
            for i, hash_key in enumerate(hashes):
                shard = stream.shard_for(hash_key)
                if i in doomed:
                    entries.append(_failure(*doomed[i], shard, stream))
                elif not shard.budget.take(len(blobs[i]) + len(keys[i])):
                    entries.append(_failure(WORDS.throttled, None, shard, stream))
                else:
                    shard.count = place = shard.count + 1
                    if self._store.keep:
                        shard.arrivals.append(first + len(accepted))
                    accepted.append(i)
                    shards.append(shard.index)
                    places.append(place)
                    entries.append('{"SequenceNumber":"%d","ShardId":"%s"}'
                                   % (shard.sequence(place, wall), shard.id))
            failed = len(entries) - len(accepted)
            self.failed_records += failed
            if failed:
                blobs = [blobs[i] for i in accepted]
                keys = [keys[i] for i in accepted]
            self._store.append(stream, int(wall * 1000), blobs, keys, shards, places)
        return failed, entries

    # --- reading --------------------------------------------------------------------------------

    def get_shard_iterator(self, members):
        kind = text(members, "ShardIteratorType", required=True, choice=ITERATOR_TYPES)
        shard_id = text(members, "ShardId", required=True)
        sequence = text(members, "StartingSequenceNumber", pattern=SEQUENCE_PATTERN)
        stream = self._stream(members)
        shard = self._shard(stream, shard_id)
        with self.lock:
            if kind == "TRIM_HORIZON":
                place = 1
            elif kind == "LATEST":
                place = shard.count + 1
            elif kind == "AT_TIMESTAMP":
                place = self._place_at(shard, members.get("Timestamp"))
            else:
                place = _place_of(stream, shard, sequence, kind)
        return {"ShardIterator": _token(stream=stream.name, shard=shard.index, place=place)}

    def _place_at(self, shard, second):
        if not isinstance(second, (int, float)) or isinstance(second, bool):
            raise ServiceError("InvalidArgumentException", "Must specify timestamp parameter for "
                               "iterator of type AT_TIMESTAMP.")
        return shard.trimmed + 1 + bisect_left(
            shard.arrivals, second * 1000, key=lambda number: self._store.find(number)[0].wall_ms)

    def get_records(self, members):
        limit = whole(members, "Limit", 1, PAGE_MAX, PAGE_MAX)
        token = text(members, "ShardIterator", required=True)
        where = _open_token(token, "ExpiredIteratorException", "place")
        with self.lock:
            stream = self._stream({"StreamName": where["stream"]})
            shard = stream.shards[where["shard"]]
            records, place = self._read(shard, max(where["place"], shard.trimmed + 1), limit)
            at_end = shard.closed_s is not None and place > shard.count
            told = {"Records": records, "MillisBehindLatest": 0 if place > shard.count else 1,
                    "NextShardIterator": None if at_end else _token(
                        stream=stream.name, shard=shard.index, place=place)}
            if at_end:
                told["ChildShards"] = [_child(s) for s in stream.shards if shard.id in s.parents]
        return told

    def _read(self, shard, place, limit):
        """Up to `limit` records from `place` on, and the place behind them."""
        records, size = [], 0
        start = place - 1 - shard.trimmed
        for number in shard.arrivals[start:start + limit]:
            segment, i = self._store.find(number)
            _, index, key, data = segment.record(i)
            size += len(data) + len(key)
            if records and size > READ_BYTES_MAX:
                break
            records.append({
                "SequenceNumber": str(shard.sequence(index, segment.wall_ms // 1000)),
                "ApproximateArrivalTimestamp": segment.wall_ms / 1000,
                "Data": binascii.b2a_base64(data, newline=False).decode(),
                "PartitionKey": key.decode(), "EncryptionType": "NONE"})
        return records, place + len(records)

    # --- finding things -------------------------------------------------------------------------

    def _stream(self, members):
        """The stream a call names, by name or ARN."""
        name = _name(members)
        arn = text(members, "StreamARN", most=2048, pattern=ARN_PATTERN)
        if name is None and arn is None:
            raise ServiceError("InvalidArgumentException",
                               "Either StreamName or StreamARN must be provided.")
        named = arn.partition("/")[2] if name is None else name
        account = ACCOUNT if arn is None else arn.split(":")[4]
        stream = self.streams.get(named)
        if stream is None or arn not in (None, stream.arn):
            raise ServiceError("ResourceNotFoundException", "Stream %s under account %s not found."
                               % (named, account))
        return stream

    def _shard(self, stream, shard_id):
        shard = stream.shard(shard_id)
        if shard is None:
            raise ServiceError("ResourceNotFoundException", "Shard %s in stream %s under account %s"
                               " does not exist" % (shard_id, stream.name, ACCOUNT))
        return shard

    def _open_shard(self, stream, shard_id):
        shard = self._shard(stream, shard_id)
        if shard.closed_s is not None:
            raise ServiceError("InvalidArgumentException", "Shard %s in stream %s under account %s "
                               "has already been merged or split"
                               % (shard_id, stream.name, ACCOUNT))
        return shard


OPERATIONS = {
    "CreateStream": Kinesis.create_stream,
    "DeleteStream": Kinesis.delete_stream,
    "DescribeStream": Kinesis.describe_stream,
    "DescribeStreamSummary": Kinesis.describe_stream_summary,
    "GetRecords": Kinesis.get_records,
    "GetShardIterator": Kinesis.get_shard_iterator,
    "ListShards": Kinesis.list_shards,
    "ListStreams": Kinesis.list_streams,
    "MergeShards": Kinesis.merge_shards,
    "PutRecord": Kinesis.put_record,
    "PutRecords": Kinesis.put_records,
    "SplitShard": Kinesis.split_shard,
    "UpdateMaxRecordSize": Kinesis.update_max_record_size,
}

_SUMMARY_MEMBERS = ("StreamName", "StreamARN", "StreamStatus", "StreamModeDetails",
                    "StreamCreationTimestamp")


def _name(members, required=False):
    return text(members, "StreamName", required=required, most=128, pattern=NAME_PATTERN)


def _record_kib(members, default):
    return whole(members, "MaxRecordSizeInKiB", MAX_RECORD_KIB, RECORD_KIB_MAX, default)


def _dry_run():
    return ServiceError("DryRunOperationException",
                        "The request was rejected because the DryRun parameter was specified.")


def _description(stream):
    return {"StreamName": stream.name, "StreamARN": stream.arn, "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": stream.mode}, "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": round(stream.created_s, 3),
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}], "EncryptionType": "NONE"}


def _child(shard):
    told = shard.describe()
    return {"ShardId": shard.id, "ParentShards": list(shard.parents),
            "HashKeyRange": told["HashKeyRange"]}


def _read_entries(records, auto, one=False):
    """(data, UTF-8 keys, hash keys) of a call's records; a hash key None lets the service choose.

    The loop is the hottest of the endpoint.  It takes what is right and leaves everything wrong
    to _entry_error, which finds out what to say."""
    blobs, keys, hashes = [], [], []
    decode = binascii.a2b_base64
    for place, entry in enumerate(records, 1):
        try:
            blob = decode(entry["Data"], strict_mode=True)
            key = entry.get("PartitionKey", "" if auto else None).encode()
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _entry_error(entry, auto, _where(place, one)) from None
        # So many UTF-8 bytes cannot be more UTF-16 units; only long keys are counted exactly.
        if len(key) > KEY_UNITS_MAX or not key:
            _check_key(entry.get("PartitionKey"), auto, _where(place, one))
        explicit = entry.get("ExplicitHashKey")
        if auto:
            hashes.append(None)
        elif explicit is None:
            hashes.append(hash_of(key))
        else:
            hashes.append(_explicit_hash(explicit, _where(place, one)))
        blobs.append(blob)
        keys.append(key)
    return blobs, keys, hashes


def _where(place, one):
    return "" if one else "records.%d.member." % place


def _entry_error(entry, auto, where):
    """What is wrong with a record that could not be read."""
    if not isinstance(entry, dict):
        return wrong_type(entry, "a Structure")
    data, key = entry.get("Data"), entry.get("PartitionKey")
    if data is None:
        return invalid(None, where + "data", "not be null")
    if not isinstance(data, str):
        return wrong_type(data, "a Blob")
    if key is None and not auto:
        return invalid(None, where + "partitionKey", "not be null")
    if key is not None and not isinstance(key, str):
        return wrong_type(key, "a String")
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        return ServiceError("SerializationException", "Invalid base64 in '%sdata'" % where)
    return ServiceError("SerializationException", "'%spartitionKey' is not Unicode" % where)


def _check_key(key, auto, where):
    if key is None and auto:
        return
    if not key:
        raise invalid(key, where + "partitionKey", "have length greater than or equal to 1")
    if len(key.encode("utf-16-le")) // 2 > KEY_UNITS_MAX:
        raise invalid(key, where + "partitionKey",
                      "have length less than or equal to %d" % KEY_UNITS_MAX)


def _explicit_hash(value, where):
    if not isinstance(value, str):
        raise wrong_type(value, "a String")
    if not re.fullmatch(HASH_PATTERN, value, re.ASCII):
        raise invalid(value, where + "explicitHashKey",
                      "satisfy regular expression pattern: " + HASH_PATTERN)
    return _hash_key(value, "ExplicitHashKey")


def _hash_key(value, name):
    number = int(value)
    if number >= HASH_KEYS:
        raise ServiceError("InvalidArgumentException", "Invalid %s. %s must be in the range: "
                           "[0, 2^128-1]. Specified value was %s" % (name, name, value))
    return number


def _check_sizes(stream, blobs, keys):
    """Bounds on single records and on the sum; one record too large refuses the whole call."""
    limit = stream.max_record_kib * 1024
    for place, (blob, key) in enumerate(zip(blobs, keys), 1):
        size = len(blob) + len(key)
        if len(blob) > DATA_BYTES_MAX:
            raise invalid(blob, "records.%d.member.data" % place,
                          "have length less than or equal to %d" % DATA_BYTES_MAX)
        if size > limit:
            raise ServiceError("InvalidArgumentException", "Record %d is too large: data and "
                               "partition key are %d bytes, stream %s under account %s allows %d."
                               % (place, size, stream.name, ACCOUNT, limit))
    if sum(map(len, blobs)) + sum(map(len, keys)) > REQUEST_BYTES_MAX:
        raise ServiceError("InvalidArgumentException", "Records size exceeds 10 MB limit")


def _failure(code, message, shard, stream):
    return json.dumps({"ErrorCode": code, "ErrorMessage": record_message(
        code, message, shard.id, stream.name, ACCOUNT)}, separators=(",", ":"))


def _place_of(stream, shard, sequence, kind):
    if sequence is None:
        raise ServiceError("InvalidArgumentException", "Must either specify (1) AT_SEQUENCE_NUMBER "
                           "and StartingSequenceNumber or (2) AFTER_SEQUENCE_NUMBER and "
                           "StartingSequenceNumber or (3) TRIM_HORIZON or (4) LATEST.")
    try:
        place = shard.place_of(sequence)
    except ValueError:
        raise ServiceError("InvalidArgumentException", "Invalid StartingSequenceNumber %s used in "
                           "GetShardIterator on shard %s in stream %s under account %s."
                           % (sequence, shard.id, stream.name, ACCOUNT)) from None
    return max(1, place + (kind == "AFTER_SEQUENCE_NUMBER"))


def _token(**where):
    """An opaque token that carries a place and dies after TOKEN_SECONDS."""
    where["until"] = time.time() + TOKEN_SECONDS
    return base64.b64encode(json.dumps(where).encode()).decode()


def _open_token(token, expired, needed):
    try:
        where = json.loads(base64.b64decode(token, validate=True))
        where[needed]
    except (ValueError, KeyError, TypeError):
        raise ServiceError("InvalidArgumentException", "The token is invalid.") from None
    if where["until"] < time.time():
        raise ServiceError(expired, "The token has expired. It lives %d seconds." % TOKEN_SECONDS)
    return where
