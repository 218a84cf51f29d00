"""A real AWS client (boto3) for the tests: runs in the venv of third_party.sh, as a program.

    aws_client.py URL create STREAM SHARDS         creates the stream and waits until it is there
    aws_client.py URL enlarge STREAM KIB           lets its records have so many KiB
    aws_client.py URL read STREAM COUNT FILE       reads the stream from its beginning till COUNT
                                                   records are there; FILE as the oracle reads it
    aws_client.py URL deliver STREAM BUCKET        creates a bucket, and a delivery stream into it
    aws_client.py URL fetch BUCKET FOLDER          all that is in the bucket: a file for each object
    aws_client.py URL user NAME                    a user who may do all that these commands do, and
                                                   a key for it: prints "ID SECRET"

The key is taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""
import json
import os
import struct
import sys
import time

import boto3
from botocore.config import Config

POLICY = {"Version": "2012-10-17",
          "Statement": [{"Effect": "Allow", "Resource": "*",
                         "Action": ["kinesis:*", "firehose:*", "s3:*"]}]}


def client(name, url):
    return boto3.client(name, endpoint_url=url, region_name="us-east-1",
                        config=Config(retries={"max_attempts": 10}))


def create(url, stream, shards):
    kinesis = client("kinesis", url)
    kinesis.create_stream(StreamName=stream, ShardCount=int(shards))
    kinesis.get_waiter("stream_exists").wait(
        StreamName=stream, WaiterConfig={"Delay": 1, "MaxAttempts": 30})


def enlarge(url, stream, kib):
    kinesis = client("kinesis", url)
    arn = kinesis.describe_stream_summary(
        StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    kinesis.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=int(kib))
    kinesis.get_waiter("stream_exists").wait(
        StreamName=stream, WaiterConfig={"Delay": 1, "MaxAttempts": 30})


def read(url, stream, count, path):
    kinesis = client("kinesis", url)
    count = int(count)
    shards = kinesis.list_shards(StreamName=stream)["Shards"]
    iterators = [kinesis.get_shard_iterator(StreamName=stream, ShardId=shard["ShardId"],
                                            ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
                 for shard in shards]
    deadline = time.monotonic() + 60
    found = 0
    with open(path, "wb") as file:
        while found < count and time.monotonic() < deadline:
            came = 0
            for n, iterator in enumerate(iterators):
                answer = kinesis.get_records(ShardIterator=iterator, Limit=5000)
                iterators[n] = answer["NextShardIterator"]
                for record in answer["Records"]:
                    file.write(struct.pack("<I", len(record["Data"])) + record["Data"])
                    came += 1
            found += came
            if not came:
                time.sleep(0.1)


def deliver(url, stream, bucket):
    client("s3", url).create_bucket(Bucket=bucket)
    client("firehose", url).create_delivery_stream(
        DeliveryStreamName=stream, DeliveryStreamType="DirectPut",
        ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/delivery",
            "BucketARN": f"arn:aws:s3:::{bucket}"})


def fetch(url, bucket, folder):
    s3 = client("s3", url)
    os.makedirs(folder, exist_ok=True)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for one in page.get("Contents", ()):
            place = os.path.join(folder, one["Key"].replace("/", "_"))
            if not os.path.exists(place):
                s3.download_file(bucket, one["Key"], place)


def user(url, name):
    iam = client("iam", url)
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(POLICY))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    print(key["AccessKeyId"], key["SecretAccessKey"])


if __name__ == "__main__":
    {"create": create, "enlarge": enlarge, "read": read, "deliver": deliver, "fetch": fetch,
     "user": user}[sys.argv[2]](sys.argv[1], *sys.argv[3:])
