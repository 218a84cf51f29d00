"""The EC2 instance metadata service, version 2: a token first, then documents.

What it tells is the instance of the Java agent's recorded cases.  Control changes it:
POST imds {"document": {...}|null, "meta": {...}, "tags": {...}|null, "forget": true}.
A document or tags of null are answered 404; `forget` makes all tokens unknown.
"""

import json
import secrets
from urllib.parse import unquote

from messages import ANY_WORDS, Answer, Refused

TOKEN_PATH = "/latest/api/token"
DOCUMENT_PATH = "/latest/dynamic/instance-identity/document"
META_PATH = "/latest/meta-data/"
TTL_MAX = 21600             # seconds a token may live

DOCUMENT = {
    "accountId": "123456789012", "architecture": "x86_64", "availabilityZone": "us-east-1a",
    "imageId": "ami-0abc", "instanceId": "i-0123456789abcdef0", "instanceType": "t3.micro",
    "privateIp": "10.0.0.5", "region": "us-east-1", "version": "2017-09-30",
}
TAGS = {"Name": "web-1", "Env": "Prod"}
META = {
    "local-ipv4": "10.0.0.5", "placement/availability-zone": "us-east-1a",
    "placement/region": "us-east-1", "instance-id": "i-0123456789abcdef0",
    "instance-type": "t3.micro", "ami-id": "ami-0abc",
    "identity-credentials/ec2/info": json.dumps({"Code": "Success", "AccountId": "123456789012"}),
}


class Imds:
    name = "imds"
    error_form = "html"
    words = ANY_WORDS

    def __init__(self):
        self.document, self.tags, self.meta = dict(DOCUMENT), dict(TAGS), dict(META)
        self._tokens = set()

    def change(self, wanted):
        """What POST imds says; a member that is not given stays."""
        for name in ("document", "tags", "meta"):
            if name in wanted:
                setattr(self, name, wanted[name])
        if wanted.get("forget"):
            self._tokens.clear()
        return {"document": self.document, "tags": self.tags, "meta": self.meta}

    def claims(self, request):
        return request.path.startswith("/latest/")

    def operation(self, request):
        return "ImdsToken" if request.path == TOKEN_PATH else "ImdsGet"

    def signed(self, operation):
        return False

    def perform(self, request, operation):
        if operation == "ImdsToken":
            return self._token(request)
        if request.header("x-aws-ec2-metadata-token") not in self._tokens:
            raise _refused(401)
        if request.method != "GET":
            raise _refused(405)
        text = self._find(unquote(request.path))
        if text is None:
            raise _refused(404)
        return Answer(body=text.encode(), content_type="text/plain")

    def _token(self, request):
        if request.method != "PUT":
            raise _refused(405)
        ttl = request.header("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= TTL_MAX:
            raise _refused(400)
        if request.header("x-forwarded-for") is not None:
            raise _refused(403)     # what came through a proxy
        token = secrets.token_urlsafe(40) + "=="
        self._tokens.add(token)
        return Answer(body=token.encode(), content_type="text/plain")

    def _find(self, path):
        if path == DOCUMENT_PATH:
            return None if self.document is None else json.dumps(self.document, indent=2)
        if not path.startswith(META_PATH):
            return None
        name = path.removeprefix(META_PATH)
        if not name.startswith("tags/instance"):
            return self.meta.get(name)
        if self.tags is None:
            return None
        key = name.removeprefix("tags/instance").removeprefix("/")
        return "\n".join(self.tags) if key == "" else self.tags.get(key)


def _refused(status):
    return Refused(Answer(status, b"", outcome=str(status)))
