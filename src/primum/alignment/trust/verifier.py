#!/usr/bin/env python3
"""Check a bundle of evidence with nothing but Python (3.9 or newer): python verify.py [BUNDLE]

BUNDLE is evidence.zip or the folder it was unpacked to (default: where this file lies). Whoever
made a bundle could also have changed the verifier inside it: to be sure, use a copy of this file
from elsewhere (it is src/primum/alignment/trust/verifier.py of Primum), and give the public key you
expect: python verify.py evidence.zip --by HEX. Signatures are checked in plain Python, 4 ms each.
"""

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

Files = dict[str, bytes]

# Ed25519 (RFC 8032, section 5.1), verification only: nothing here is secret.
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def recover_x(y: int, sign: int) -> Any:
    """The x of a point with this y, or None if there is none."""
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    return P - x if x & 1 != sign else x


def add(p: Any, q: Any) -> Any:
    """The sum of two points in extended coordinates."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def decode(data: bytes) -> Any:
    """The point that 32 bytes stand for, or None."""
    number = int.from_bytes(data, "little")
    y, sign = number & (2**255 - 1), number >> 255
    x = recover_x(y, sign) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


ZERO = (0, 1, 1, 0)
BASE = decode(bytes.fromhex("58" + "66" * 31))


def signed(public: str, message: bytes, signature: str) -> bool:
    """Is this the Ed25519 signature of a public key (both hex) over a message?"""
    key, value = bytes.fromhex(public), bytes.fromhex(signature)
    point, s = decode(key), int.from_bytes(value[32:], "little")
    nonce = decode(value[:32])
    if len(value) != 64 or point is None or nonce is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(value[:32] + key + message).digest(), "little") % L
    minus = (P - point[0], point[1], 1, P - point[3])
    table, total = (None, BASE, minus, add(BASE, minus)), ZERO
    for bit in range(max(s.bit_length(), k.bit_length()) - 1, -1, -1):
        total = add(total, total)
        which = (s >> bit & 1) | (k >> bit & 1) << 1
        if which:
            total = add(total, table[which])
    same_x = (total[0] * nonce[2] - nonce[0] * total[2]) % P == 0
    return same_x and (total[1] * nonce[2] - nonce[1] * total[2]) % P == 0


def spelled(value: Any) -> bytes:
    """RFC 8785 of what a log holds: ASCII keys and no fractions."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


class Broken(Exception):
    """The evidence does not hold."""


def check(condition: Any, *words: Any) -> None:
    if not condition:
        raise Broken(" ".join(map(str, words)))


def read_bundle(path: Path) -> Files:
    """Content of every file by name."""
    if path.is_dir():
        files = [
            file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts
        ]
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def check_index(files: Files) -> str:
    index = json.loads(files["index.json"])["sha256"]
    for name, digest in index.items():
        check(name in files, name, "is missing")
        check(hashlib.sha256(files[name]).hexdigest() == digest, name, "was changed")
    added = set(files) - set(index) - {"index.json"}
    check(not added, "not in the index:", ", ".join(sorted(added)))
    return f"{len(index)} files are as the index says"


def check_chain(files: Files, keys: Any) -> Any:
    """Every line follows the one before and is signed by whom it names."""
    events, prev, count = [], "0" * 64, 0
    for number, line in enumerate(files["log.jsonl"].splitlines(), 1):
        event = json.loads(line)
        body = {name: value for name, value in event.items() if name != "hash"}
        check(spelled(event) == line, f"line {number}: not in canonical form")
        check(event["seq"] == number - 1, f"line {number}: out of order")
        check(event["prev"] == prev, f"line {number}: the line before was changed or taken out")
        digest = hashlib.sha256(bytes.fromhex(prev) + spelled(body)).hexdigest()
        check(digest == event["hash"], f"line {number}: it was changed")
        if "signature" in event:
            row = keys.get(event["signature"]["key"])
            check(row, f"line {number}: signed with an unknown key")
            actor = {"id": row["reviewer"], "role": row["role"]}
            check(actor == event["actor"], f"line {number}: signed by somebody else")
            names = ("actor", "commitment", "event", "record", "schema", "ts")
            message = spelled({name: event[name] for name in names})
            right = signed(row["public"], message, event["signature"]["value"])
            check(right, f"line {number}: the signature is wrong")
            count += 1
        events.append(event)
        prev = digest
    return events, f"{len(events)} events in one chain, {count} of them signed; head {prev}"


def check_seals(files: Files, events: Any, by: Any) -> str:
    """Each seal is signed, and the log has all that was sealed."""
    seals = [json.loads(files[name]) for name in sorted(files) if name.startswith("seals/")]
    for seal in seals:
        body = {name: value for name, value in seal.items() if name != "signature"}
        check(
            signed(seal["public"], spelled(body), seal["signature"]["value"]), "a seal was altered"
        )
        check(seal["count"] <= len(events), "the log was cut: a seal has", seal["count"], "events")
        marks = [*seal["marks"], [seal["count"] - 1, seal["head"]]]
        for seq, digest in marks:
            check(
                seq < 0 or events[seq]["hash"] == digest, f"line {seq + 1}: rewritten since a seal"
            )
    mine = [seal for seal in seals if seal["public"] == by]
    check(mine or by is None, "no seal is signed with the key you gave")
    last = max((seal["count"] for seal in mine or seals), default=0)
    return f"{len(seals)} seals kept; {len(events) - last} events since the last"


def check_lineage(files: Files, events: Any) -> str:
    """What each training run read, and what of it was revoked or erased."""
    gone = {event["record"]: event["event"] for event in events
            if event["event"] in ("revoke", "erase")}  # fmt: skip
    known = {event["record"] for event in events if event["event"] == "create"}
    heads = {event["hash"] for event in events} | {"0" * 64}
    said = []
    for name in sorted(name for name in files if name.startswith("lineage/")):
        header, *ranges = [json.loads(line) for line in files[name].splitlines()]
        rows = {row for one in ranges for row in one["rows"]}
        check(rows <= known, name, "names rows that the log does not")
        note = "" if header["head"] in heads else " (of a head this log never had)"
        bad = sorted(row for row in rows if row in gone)
        listed = "".join(f"\n    {gone[row]}d since: {row}" for row in bad)
        said.append(f"run {header['name']} {header['run_id']}{note} read {len(rows)} rows{listed}")
    return "\n".join(said) or "no training run is in this bundle"


def main(arguments: list) -> int:
    by = arguments.pop(arguments.index("--by") + 1) if "--by" in arguments else None
    given = [word for word in arguments if word != "--by"]
    path = Path(given[0] if given else __file__ + "/..").resolve()
    try:
        files = read_bundle(path)
        print(check_index(files))
        keys = json.loads(files.get("reviewers.json", b'{"keys": {}}'))["keys"]
        for name, row in keys.items():
            digest = hashlib.sha256(bytes.fromhex(row["public"])).hexdigest()
            check(digest[:16] == name, "the register of keys was changed at", name)
        events, said = check_chain(files, keys)
        print(said, check_seals(files, events, by), check_lineage(files, events), sep="\n")
    except Broken as error:
        print("BROKEN:", error)
        return 1
    except (KeyError, ValueError, TypeError, IndexError, OSError, zipfile.BadZipFile) as error:
        print("BROKEN: this is no bundle of evidence:", type(error).__name__, error)
        return 1
    print("WHOLE")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
