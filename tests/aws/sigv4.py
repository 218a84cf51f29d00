"""Signature Version 4: making signatures (tests do) and checking them (the endpoint does).

The check is stricter than AWS where strictness finds bugs: every x-amz-* header and the content
type must be signed.  The texts of the errors are AWS's own, including the canonical request it
expected, because that text is how people find out what they signed wrongly.
"""

import hashlib
import hmac
import re
import time
from calendar import timegm
from functools import lru_cache
from urllib.parse import quote, unquote

from messages import ServiceError

ALGORITHM = "AWS4-HMAC-SHA256"
BASIC_DATE = "%Y%m%dT%H%M%SZ"
_DATE_PATTERN = re.compile(r"\d{8}T\d{6}Z")
_BLANKS = re.compile(r"[ \t]+")


class SignatureError(ServiceError):
    """Any refusal by the check below; told apart only to be counted."""


@lru_cache(maxsize=64)
def signing_key(secret, date, region, service):
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def canonical_path(path, normalize=True):
    """The path as it came over the wire, encoded once more, as all services but S3 want it."""
    segments = path.split("/")[1:]
    if normalize:
        kept = []
        for segment in segments:
            if segment == "..":
                kept[-1:] = []
            elif segment not in ("", "."):
                kept.append(segment)
        if kept and segments[-1] in ("", ".", ".."):
            kept.append("")
        segments = kept
    return "/" + "/".join(quote(segment, safe="-_.~") for segment in segments)


def canonical_query(query):
    pairs = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        pairs.append(tuple(quote(unquote(text), safe="-_.~") for text in (name, value)))
    return "&".join("%s=%s" % pair for pair in sorted(pairs))


def canonical_request(request, signed_names, body_hash, normalize=True):
    """The canonical text of `request`, of the headers named in `signed_names` (in that order)."""
    values = {}
    for name, value in request.headers:
        values.setdefault(name, []).append(_BLANKS.sub(" ", value.strip()))
    lines = [request.method, canonical_path(request.path, normalize),
             canonical_query(request.query)]
    lines += ["%s:%s" % (name, ",".join(values.get(name, []))) for name in signed_names]
    lines += ["", ";".join(signed_names), body_hash]
    return "\n".join(lines)


def string_to_sign(canonical, amz_date, scope):
    digest = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    return "\n".join((ALGORITHM, amz_date, scope, digest))


def sign(request, key_id, secret, region, service, token=None, when=None):
    """Adds X-Amz-Date, the token and Authorization to a request whose other headers are set.

    Signs every header that is there.  `when` is a Unix time; None is now."""
    amz_date = time.strftime(BASIC_DATE, time.gmtime(when))
    request.headers.append(("x-amz-date", amz_date))
    if token is not None:
        request.headers.append(("x-amz-security-token", token))
    scope = "/".join((amz_date[:8], region, service, "aws4_request"))
    names = sorted({name for name, _ in request.headers})
    canonical = canonical_request(request, names, hashlib.sha256(request.body).hexdigest())
    signature = hmac.new(signing_key(secret, amz_date[:8], region, service),
                         string_to_sign(canonical, amz_date, scope).encode(), "sha256").hexdigest()
    request.headers.append(("authorization", "%s Credential=%s/%s, SignedHeaders=%s, Signature=%s"
                            % (ALGORITHM, key_id, scope, ";".join(names), signature)))


class Key:
    """An access key.  With a token it is temporary; an expired one is known but refused."""

    def __init__(self, key_id, secret, token=None, expired=False):
        self.key_id = key_id
        self.secret = secret
        self.token = token
        self.expired = expired

    @classmethod
    def parse(cls, text):
        """AKID:SECRET or AKID:SECRET:TOKEN."""
        parts = text.split(":", 2)
        if len(parts) < 2 or not all(parts):
            raise ValueError("a key is AKID:SECRET or AKID:SECRET:TOKEN, not %r" % text)
        return cls(*parts)


class Verifier:
    """Checks the signature of requests; one for all services of the endpoint."""

    def __init__(self, keys, region, window_seconds, clock):
        self.keys = {key.key_id: key for key in keys}
        self.region = region
        self.window = window_seconds
        self.clock = clock

    def check(self, request, service):
        """Raises SignatureError unless `request` is signed for `service`."""
        header = request.header("authorization")
        if header is None:
            raise SignatureError("MissingAuthenticationTokenException",
                                 "Missing Authentication Token")
        key_id, scope, names, signature = _parse_authorization(header, request)
        amz_date = request.header("x-amz-date")
        key = self._key(key_id, request)
        self._check_scope(scope, service, amz_date)
        _check_signed_names(names, request)
        self._check_clock(amz_date)
        body_hash = hashlib.sha256(request.body).hexdigest()
        _check_content_hash(request, body_hash)
        _check_signature(request, names, body_hash, amz_date, scope, key, signature)
        if key.expired:
            raise SignatureError("ExpiredTokenException",
                                 "The security token included in the request is expired")

    def _key(self, key_id, request):
        key = self.keys.get(key_id)
        if key is None or key.token != request.header("x-amz-security-token"):
            raise SignatureError("UnrecognizedClientException",
                                 "The security token included in the request is invalid.")
        return key

    def _check_scope(self, scope, service, amz_date):
        date, region, name, terminator = scope.split("/")
        wrong = ""
        if region != self.region:
            wrong += "Credential should be scoped to a valid region, not '%s'. " % region
        if name != service:
            wrong += "Credential should be scoped to correct service: '%s'. " % service
        if terminator != "aws4_request":
            wrong += ("Credential should be scoped with a valid terminator: 'aws4_request', "
                      "not '%s'. " % terminator)
        if date != amz_date[:8]:
            wrong += ("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of "
                      "date from HTTP: '%s' != '%s', from '%s'. " % (date, amz_date[:8], amz_date))
        if wrong:
            raise SignatureError("InvalidSignatureException", wrong)

    def _check_clock(self, amz_date):
        try:
            signed = timegm(time.strptime(amz_date, BASIC_DATE))
        except ValueError:
            raise _bad_date(amz_date) from None
        now = self.clock.now()
        told = [time.strftime(BASIC_DATE, time.gmtime(t))
                for t in (now - self.window, now, now + self.window)]
        minutes = "%g min." % (self.window / 60)
        if signed < now - self.window:
            raise SignatureError("InvalidSignatureException", "Signature expired: %s is now earlier"
                                 " than %s (%s - %s)" % (amz_date, told[0], told[1], minutes))
        if signed > now + self.window:
            raise SignatureError("InvalidSignatureException", "Signature not yet current: %s is "
                                 "still later than %s (%s + %s)"
                                 % (amz_date, told[2], told[1], minutes))


def _parse_authorization(header, request):
    """(access key id, the rest of the scope, signed header names, signature)."""
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise SignatureError("IncompleteSignatureException",
                             "Unsupported AWS 'algorithm': '%s'." % algorithm)
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    wrong = "".join("Authorization header requires '%s' parameter. " % name
                    for name in ("Credential", "Signature", "SignedHeaders")
                    if not fields.get(name))
    amz_date = request.header("x-amz-date")
    if amz_date is None:
        wrong += ("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' "
                  "header. ")
    if wrong:
        raise SignatureError("IncompleteSignatureException", wrong + "Authorization=" + header)
    if not _DATE_PATTERN.fullmatch(amz_date):
        raise _bad_date(amz_date)
    credential = fields["Credential"].split("/")
    if len(credential) != 5:
        raise SignatureError("IncompleteSignatureException",
                             "Credential must have exactly 5 slash-delimited elements, e.g. "
                             "keyid/date/region/service/term, got '%s'" % fields["Credential"])
    return (credential[0], "/".join(credential[1:]), fields["SignedHeaders"].split(";"),
            fields["Signature"])


def _bad_date(amz_date):
    return SignatureError("IncompleteSignatureException",
                          "Date must be in ISO-8601 'basic format'. Got '%s'. See "
                          "http://en.wikipedia.org/wiki/ISO_8601" % amz_date)


def _check_signed_names(names, request):
    """Host and whatever gives the call its meaning must be under the signature."""
    if "host" not in names:
        raise SignatureError("InvalidSignatureException", "'Host' or ':authority' must be a "
                             "'SignedHeader' in the AWS Authorization.")
    if names != sorted(set(names)):
        raise SignatureError("InvalidSignatureException",
                             "SignedHeaders must be in lower case, sorted and unique.")
    unsigned = [name for name in sorted(request.first) if name not in names
                and (name.startswith("x-amz-") or name == "content-type")]
    if unsigned:
        raise SignatureError("InvalidSignatureException", "There were headers present in the "
                             "request which were not signed: " + ", ".join(unsigned))


def _check_content_hash(request, body_hash):
    claimed = request.header("x-amz-content-sha256", body_hash)
    if claimed != body_hash:
        raise SignatureError("InvalidSignatureException", "The provided 'x-amz-content-sha256' "
                             "header does not match what was computed.")


def _check_signature(request, names, body_hash, amz_date, scope, key, signature):
    canonical = canonical_request(request, names, body_hash)
    to_sign = string_to_sign(canonical, amz_date, scope)
    ours = hmac.new(signing_key(key.secret, *scope.split("/")[:3]), to_sign.encode(),
                    "sha256").hexdigest()
    if not hmac.compare_digest(ours.encode(), signature.encode("utf-8", "surrogateescape")):
        raise SignatureError(
            "InvalidSignatureException", "The request signature we calculated does not match the "
            "signature you provided. Check your AWS Secret Access Key and signing method. Consult "
            "the service documentation for details.\n\nThe Canonical String for this request "
            "should have been\n'%s'\n\nThe String-to-Sign should have been\n'%s'\n"
            % (canonical, to_sign))
