"""Reviewers' keys (Ed25519), and the register of which public key is whose."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.errors import UserError
from primum.extras import require
from primum.files import atomic_write

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

REGISTER = "reviewers.json"
PASSPHRASE = "PRIMUM_KEY_PASSPHRASE"


@dataclass(frozen=True)
class Key:
    """A reviewer's private key, with the pseudonym and role it speaks for."""

    reviewer: str
    role: str
    private: Ed25519PrivateKey

    @property
    def public(self) -> str:
        """The public key, 64 hex digits."""
        return self.private.public_key().public_bytes_raw().hex()

    @property
    def id(self) -> str:
        """How signatures name this key."""
        return key_id(self.public)

    @property
    def row(self) -> dict[str, str]:
        """What the register says of it."""
        return {"reviewer": self.reviewer, "role": self.role, "public": self.public}

    @property
    def actor(self) -> dict[str, str]:
        """The actor of what this key signs."""
        return {"id": self.reviewer, "role": self.role}

    def sign(self, message: bytes) -> dict[str, str]:
        """An Ed25519 signature, as events and seals carry it."""
        return {"key": self.id, "value": self.private.sign(message).hex()}


def key_id(public: str) -> str:
    """The first 16 hex digits of the SHA-256 of a public key."""
    return hashlib.sha256(bytes.fromhex(public)).hexdigest()[:16]


def new_key(path: str | Path, reviewer: str, role: str) -> Key:
    """Make a private key and write it as PEM, for its owner's eyes only.

    `PRIMUM_KEY_PASSPHRASE`, if set, encrypts it.

    Raises:
        UserError: The file exists already, or reviewer or role are not what the schema allows.
    """
    from primum.alignment.trust.schema import fault

    require("cryptography", "alignment")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = Path(path).expanduser()
    if wrong := fault("actor", {"id": reviewer, "role": role}):
        raise UserError(
            f"A reviewer needs a pseudonym and a known role: {wrong}",
            remedy="use a pseudonym such as r-17 and not a name or an address",
        )
    if path.exists():
        raise UserError("There is a key here already", file=path, remedy="choose another with -o")
    key = Key(reviewer, role, Ed25519PrivateKey.generate())
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"reviewer: {reviewer}\nrole: {role}\n".encode()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(header + _pem(key.private))
    atomic_write(public_file(path), json.dumps(key.row, indent=1) + "\n")
    return key


def public_file(path: str | Path) -> Path:
    """Where the public half of a key lies: the file to hand to who keeps the store."""
    path = Path(path).expanduser()
    return path.with_name(path.name + ".pub")


def read_public(path: str | Path) -> list[dict[str, str]]:
    """Reviewer, role and public key, from a `.pub` file or another store's register.

    Raises:
        UserError: It is neither.
    """
    from primum.alignment.trust.schema import fault

    path = Path(path).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = list(content["keys"].values()) if "keys" in content else [content]
        for row in rows:
            assert set(row) == {"reviewer", "role", "public"} and len(row["public"]) == 64
            assert fault("actor", {"id": row["reviewer"], "role": row["role"]}) is None
            key_id(row["public"])
    except FileNotFoundError:
        raise UserError("There is no such public key", file=path) from None
    except (ValueError, KeyError, TypeError, AssertionError):
        raise UserError(
            "This is no public key of a reviewer",
            file=path,
            remedy="enrol the .pub file that `primum trust key` wrote, never the key itself",
        ) from None
    return rows


def read_key(path: str | Path) -> Key:
    """Read what `new_key` wrote.

    Raises:
        UserError: It is no such file, or its passphrase is wrong or missing.
    """
    require("cryptography", "alignment")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = Path(path).expanduser()
    passphrase = os.environ.get(PASSPHRASE)
    try:
        data = path.read_bytes()
        head, _, pem = data.partition(b"-----BEGIN")
        said = dict(line.split(": ", 1) for line in head.decode().splitlines())
        secret = passphrase.encode() if passphrase and b"ENCRYPTED" in pem[:40] else None
        private = load_pem_private_key(b"-----BEGIN" + pem, secret)
        assert isinstance(private, Ed25519PrivateKey)
        return Key(said["reviewer"], said["role"], private)
    except FileNotFoundError:
        raise UserError(
            "There is no such key", file=path, remedy="make one: primum trust key -o FILE"
        ) from None
    except TypeError:
        raise UserError(
            "This key is encrypted", file=path, remedy=f"set {PASSPHRASE} in the environment"
        ) from None
    except (ValueError, KeyError, AssertionError, UnicodeDecodeError):
        raise UserError(
            "This is no reviewer's key, or the passphrase is not its own", file=path
        ) from None


def _pem(private: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        KeySerializationEncryption,
        NoEncryption,
        PrivateFormat,
    )

    passphrase = os.environ.get(PASSPHRASE)
    how: KeySerializationEncryption = NoEncryption()
    if passphrase:
        how = BestAvailableEncryption(passphrase.encode())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


def signed_by(public: str, message: bytes, value: str) -> bool:
    """Is this the signature of that key over the message?"""
    require("cryptography", "alignment")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
            bytes.fromhex(value), message
        )
    except (InvalidSignature, ValueError):
        return False
    return True


class Register:
    """`reviewers.json`: reviewer, role and public key by key id. A reviewer may have several."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: dict[str, dict[str, str]] = {}
        if path.exists():
            try:
                self.keys = json.loads(path.read_text(encoding="utf-8"))["keys"]
                assert all(key_id(row["public"]) == key for key, row in self.keys.items())
            except (ValueError, KeyError, TypeError, AssertionError):
                raise UserError("The register of reviewers is damaged", file=path) from None

    def add(self, row: dict[str, str]) -> None:
        """Let a reviewer sign with this public key from now on.

        Raises:
            UserError: The key is somebody else's, or the reviewer is known in another role.
        """
        for known in self.keys.values():
            same = known["reviewer"] == row["reviewer"]
            if known["public"] == row["public"] and not same:
                raise UserError(f"This key is {known['reviewer']}'s already", file=self.path)
            if same and known["role"] != row["role"]:
                raise UserError(
                    f"{row['reviewer']} is known as {known['role']}, not as {row['role']}",
                    file=self.path,
                    remedy="a person with two roles has two pseudonyms",
                )
        self.keys[key_id(row["public"])] = dict(row)
        text = json.dumps({"schema": "cts-reviewers/1", "keys": self.keys}, indent=1) + "\n"
        atomic_write(self.path, text)

    def fault(self, signature: dict[str, str], actor: dict[str, str], message: bytes) -> str | None:
        """What is wrong with a signature; None if it is the actor's own."""
        known: dict[str, Any] | None = self.keys.get(signature["key"])
        if known is None:
            return f"it is signed with the key {signature['key']}, which is nobody's here"
        if (known["reviewer"], known["role"]) != (actor["id"], actor["role"]):
            return (
                f"it speaks for {actor['id']} ({actor['role']}), and is signed with the key of "
                f"{known['reviewer']} ({known['role']})"
            )
        if not signed_by(known["public"], message, signature["value"]):
            return f"the signature is not one of {known['reviewer']} over this event"
        return None
