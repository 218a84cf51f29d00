"""AWS JSON 1.1: the operation in a header, members in JSON, and the checks every service shares.

Kinesis speaks it; Firehose and KMS do too.
"""

import json
import re

from messages import JSON_TYPE, Answer, ServiceError


def operation_of(request, prefix, operations):
    """The operation a request names, if its body is of our type and the service knows it."""
    name = request.header("x-amz-target", "").removeprefix(prefix)
    content_type = request.header("content-type", "").partition(";")[0].strip()
    if request.method != "POST" or content_type != JSON_TYPE:
        raise ServiceError("UnknownOperationException", status=404)
    if name not in operations:
        raise ServiceError("UnknownOperationException")
    return name


def _no_constant(name):
    raise ValueError("%s is not JSON" % name)


def members_of(body):
    """The members of a request.  Stricter than Python: no NaN, no surrogates from bad UTF-8."""
    try:
        members = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ServiceError("SerializationException") from None
    if not isinstance(members, dict):
        raise ServiceError("SerializationException", "Start of structure or map found where not "
                           "expected.")
    return members


def answer_of(members):
    """A good answer; None has no body, bytes are ready JSON."""
    if members is None:
        return Answer(content_type=JSON_TYPE)
    if not isinstance(members, bytes):
        members = json.dumps(members, separators=(",", ":")).encode()
    return Answer(body=members, content_type=JSON_TYPE)


def invalid(value, where, constraint):
    """The error for a value outside its documented bounds, in Coral's words."""
    if value is None:
        told = "Value null"
    elif where.endswith(("records", "data")):
        told = "Value"                      # never a megabyte of echo
    else:
        told = "Value '%s'" % (value,)
    return ServiceError("ValidationException", "1 validation error detected: %s at '%s' failed to "
                        "satisfy constraint: Member must %s" % (told, where, constraint))


def wrong_type(value, wanted):
    found = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "NUMBER_VALUE", bool: "TRUE_VALUE",
             dict: "START_OBJECT", list: "START_ARRAY"}.get(type(value), "NULL")
    return ServiceError("SerializationException", "%s can not be converted to %s" % (found, wanted))


def where_of(name):
    """How errors spell a member: with a small first letter."""
    return name[:1].lower() + name[1:]


def text(members, name, required=False, most=None, pattern=None, choice=None):
    """A string member, or None if it may be missing and is."""
    value = members.get(name)
    where = where_of(name)
    if value is None:
        if required:
            raise invalid(None, where, "not be null")
        return None
    if not isinstance(value, str):
        raise wrong_type(value, "a String")
    if not value and most is not None:
        raise invalid(value, where, "have length greater than or equal to 1")
    if most is not None and len(value) > most:
        raise invalid(value, where, "have length less than or equal to %d" % most)
    if pattern is not None and not re.fullmatch(pattern, value, re.ASCII):
        raise invalid(value, where, "satisfy regular expression pattern: " + pattern)
    if choice is not None and value not in choice:
        raise invalid(value, where, "satisfy enum value set: [%s]" % ", ".join(choice))
    return value


def whole(members, name, least, most, default=None, required=False):
    """An integer member."""
    value = members.get(name)
    if value is None:
        if required:
            raise invalid(None, where_of(name), "not be null")
        return default
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(value, "an Integer")
    if value < least:
        raise invalid(value, where_of(name), "have value greater than or equal to %d" % least)
    if value > most:
        raise invalid(value, where_of(name), "have value less than or equal to %d" % most)
    return value


def truth(members, name):
    value = members.get(name)
    if value is not None and not isinstance(value, bool):
        raise wrong_type(value, "a Boolean")
    return bool(value)


def structure(members, name):
    value = members.get(name)
    if value is not None and not isinstance(value, dict):
        raise wrong_type(value, "a Structure")
    return value or {}
