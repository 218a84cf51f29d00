"""A local AWS endpoint for kinetail's tests: strict about what it takes, misbehaving on command.

Speaks Kinesis Data Streams and Data Firehose (JSON 1.1) over HTTP/1.1, checks every signature,
enforces the documented limits, keeps what it accepted; and the EC2 instance metadata service.
When it listens it prints one line of JSON on standard output: {"port": N, "url":
"http://127.0.0.1:N"}.  SIGTERM or SIGINT ends it.
"""

import argparse
import json
import re
import signal
import sys

import control
import faults
from control import Control
from endpoint import Endpoint, Stats
from faults import Faults
from firehose import Firehose, StreamLimits
from imds import Imds
from kinesis import Kinesis
from messages import Clock, ServiceError
from server import Server, tls_context
from sigv4 import Key, Verifier
from store import Store
from stream import Limits

EXAMPLE_KEY = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"     # AWS's published example
SHARD_BYTES = 1 << 20       # the documented budget of a shard, per second
SHARD_RECORDS = 1000
STREAM_BYTES = 1 << 20      # of a delivery stream in most regions, per second
STREAM_RECORDS = 100_000
STREAM_REQUESTS = 1000

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def _fault(text):
    value = json.loads(text)
    Faults().replace(value)          # only to see whether it is one
    return value if isinstance(value, list) else [value]


def _stream(text):
    name, _, rest = text.partition(":")
    count, _, auto = rest.partition(":")
    if not name or auto not in ("", "auto") or not re.fullmatch("[1-9][0-9]*", count or "1"):
        raise argparse.ArgumentTypeError("a stream is NAME, NAME:SHARDS or NAME:SHARDS:auto")
    return name, int(count or 1), auto == "auto"


def _argument(parse):
    """Turns the ValueErrors of `parse` into argparse's own, which keep their text."""
    def convert(text):
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return convert


def _parser():
    parser = argparse.ArgumentParser(
        prog="python3 tests/aws", formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__,
        epilog="FAULTS\nA fault is a JSON object {\"kind\": K, ...}; in [] the default.\n\n"
               + faults.manual() + "\n\nCONTROL\n" + control.__doc__)
    add = parser.add_argument
    add("--port", type=int, default=0, help="port on 127.0.0.1; 0 picks one (default)")
    add("--tls-cert", metavar="FILE", help="PEM certificate chain: speak TLS")
    add("--tls-key", metavar="FILE", help="its private key")
    add("--region", default="us-east-1", help="the only region (default us-east-1)")
    add("--key", action="append", type=_argument(Key.parse), metavar="AKID:SECRET[:TOKEN]",
        help="an access key that is known; repeatable (default: AWS's documentation example)")
    add("--clock-window", type=float, default=300, metavar="SECONDS",
        help="how far a signature's date may be off (default 300)")
    add("--clock-offset", type=float, default=0, metavar="SECONDS",
        help="how far the clock of the service is off (default 0)")
    add("--stream", action="append", type=_stream, default=[], metavar="NAME[:SHARDS[:auto]]",
        help="a stream to create at start; auto: on-demand, the service spreads the records; "
             "repeatable")
    add("--delivery-stream", action="append", default=[], metavar="NAME",
        help="a Firehose delivery stream (Direct PUT) to create at start; repeatable")
    add("--budgets", action="store_true",
        help="every shard takes its documented 1 MiB and 1000 records per second, and every "
             "delivery stream what it takes in a small region")
    add("--shard-bytes", type=int, default=0, metavar="N", help="bytes a shard takes per second")
    add("--shard-records", type=int, default=0, metavar="N",
        help="records a shard takes per second")
    add("--stream-bytes", type=int, default=0, metavar="N",
        help="bytes a delivery stream takes per second")
    add("--stream-records", type=int, default=0, metavar="N",
        help="records a delivery stream takes per second")
    add("--stream-requests", type=int, default=0, metavar="N",
        help="requests a delivery stream takes per second")
    add("--fault", action="append", type=_argument(_fault), default=[], metavar="JSON",
        help="a fault, see below; repeatable")
    add("--seed", type=int, default=0, metavar="N", help="of all chance in faults (default 0)")
    add("--keep", choices=("all", "none"), default="all",
        help="none: count accepted records and forget them (default all)")
    add("--record-file", metavar="PATH",
        help="append the data of each accepted record: u32 little-endian length, then the bytes")
    add("--verbose", action="store_true", help="a line per request on standard error")
    return parser


def _limits(arguments):
    """(of every shard, of every delivery stream)"""
    def limit(said, documented):
        return said or (documented if arguments.budgets else 0)

    return (Limits(limit(arguments.shard_bytes, SHARD_BYTES),
                   limit(arguments.shard_records, SHARD_RECORDS)),
            StreamLimits(limit(arguments.stream_bytes, STREAM_BYTES),
                         limit(arguments.stream_records, STREAM_RECORDS),
                         limit(arguments.stream_requests, STREAM_REQUESTS)))


def main():
    parser = _parser()
    arguments = parser.parse_args()
    if bool(arguments.tls_cert) != bool(arguments.tls_key):
        parser.error("--tls-cert and --tls-key go together")

    stats = Stats()
    clock = Clock(arguments.clock_offset)
    trouble = Faults(arguments.seed)
    store = Store(arguments.keep == "all", arguments.record_file)
    verifier = Verifier(arguments.key or [Key.parse(EXAMPLE_KEY)], arguments.region,
                        arguments.clock_window, clock)
    of_shards, of_delivery = _limits(arguments)
    kinesis = Kinesis(arguments.region, store, trouble, of_shards)
    firehose = Firehose(arguments.region, store, trouble, of_delivery)
    imds = Imds()
    steering = Control(kinesis, firehose, store, trouble, stats, verifier, clock, imds)
    endpoint = Endpoint([kinesis, firehose, imds], steering, verifier, trouble, stats, clock,
                        arguments.verbose)
    try:
        for name, shards, auto in arguments.stream:
            kinesis.add_stream(name, shards, auto=auto, mode="ON_DEMAND" if auto else "PROVISIONED")
        for name in arguments.delivery_stream:
            firehose.add_stream(name)
    except ServiceError as error:
        parser.error(error.message)

    tls = arguments.tls_cert and tls_context(arguments.tls_cert, arguments.tls_key)
    server = Server(endpoint, stats, arguments.port, tls or None)
    trouble.go_down = server.go_down
    # Blocked before any thread starts, so that all inherit it and only sigwait below hears them.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    server.start()
    down_seconds = trouble.replace([fault for group in arguments.fault for fault in group])
    print(json.dumps({"port": server.port, "url": "http%s://127.0.0.1:%d"
                      % ("s" if tls else "", server.port)}), flush=True)
    if down_seconds:
        server.go_down(down_seconds)
    signal.sigwait(STOP_SIGNALS)
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
