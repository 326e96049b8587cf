"""One spelling of a JSON value (RFC 8785), and the hashes that are taken of it."""

from __future__ import annotations

import hashlib
from typing import Any

from primum.errors import UserError
from primum.extras import require

GENESIS = "0" * 64
PURPOSE = b"cts/1 payload\n"  # so that a commitment is the hash of nothing else
SALT = 32  # bytes; with fewer, somebody could try the texts a patient may have said


def canonical(value: Any) -> bytes:
    """The bytes of a JSON value under RFC 8785.

    Raises:
        UserError: It holds what JSON or its common subset I-JSON cannot (NaN, integers beyond
            2**53, lone surrogates).

    >>> canonical({"b": 1.0, "a": "é"}).decode()
    '{"a":"é","b":1}'
    """
    rfc8785 = require("rfc8785", "alignment")
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise UserError(f"This value has no canonical JSON: {error}") from None


def text_sha256(*texts: str) -> str:
    """Names a version of a text inside payloads; outside it would be a hash one can guess at."""
    return hashlib.sha256(canonical(list(texts))).hexdigest()


def commit(salt: bytes, payload: bytes) -> str:
    """The salted commitment to a payload: binding, and hiding as long as the salt is kept."""
    return hashlib.sha256(PURPOSE + salt + payload).hexdigest()


def chain_hash(previous: str, body: bytes) -> str:
    """SHA-256 of the event before and the canonical bytes of this one."""
    return hashlib.sha256(bytes.fromhex(previous) + body).hexdigest()
