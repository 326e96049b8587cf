"""Everything a sceptic needs in one file, with a verifier that needs only Python."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from importlib.resources import files as package_files
from pathlib import Path

from primum.alignment.trust.events import now
from primum.alignment.trust.keys import REGISTER
from primum.alignment.trust.lineage import runs
from primum.alignment.trust.store import LOG, Store
from primum.alignment.trust.verify import verify
from primum.checkpoints.manifest import FILE
from primum.errors import UserError
from primum.files import atomic_write

READ_ME = """Evidence of a Primum trust log, made {when}.

    python verify.py              checks this folder; needs Python 3.9 or newer and nothing else
    python verify.py --by KEY     also that the last seal is signed with this public key (hex)

It says WHOLE, or what is broken. A verifier inside a bundle could have been changed with it: a
careful reader takes verify.py from a source he trusts.

log.jsonl       one event a line, chained by hash; no words of anybody, only salted commitments
reviewers.json  whose public key is whose (pseudonyms)
seals/          signed heads of the log
lineage/        which rows each training run read
manifests/      what the models made by those runs are, file by file
reports/        what was put in with --report
index.json      SHA-256 of every file here

Not proved: that a pseudonym is the person it should be, that clocks were right, that what was
never logged did not happen, that backups and disks kept nothing of what was erased.
"""


def bundle(
    store: Store,
    out: str | Path,
    reports: Iterable[str | Path] = (),
    roots: Iterable[str | Path] = (),
) -> list[str]:
    """Write `evidence.zip`: log, keys, seals, lineage, manifests, reports and the verifier.

    Payloads stay in the store. Reports are put in as they are, with the answers they quote.

    Args:
        reports: Files, or folders of them.
        roots: Where runs lie that the store has not been told of.

    Returns:
        The names inside.

    Raises:
        UserError: The store is not whole, a report is missing, or `out` exists.
    """
    out = Path(out).expanduser()
    if out.exists():
        raise UserError("This file exists already", file=out, remedy="choose another with -o")
    verdict = verify(store.path)
    if not verdict.whole:
        raise UserError(f"The store is {verdict}", file=store.path)
    content: dict[str, bytes] = {LOG: store.log.read_bytes()}
    if (store.path / REGISTER).exists():
        content[REGISTER] = (store.path / REGISTER).read_bytes()
    for seal in sorted((store.path / "seals").glob("*.json")):
        content[f"seals/{seal.name}"] = seal.read_bytes()
    for run in runs(store, roots):
        name = f"{run.header['name'].replace('/', '-')}--{run.id}"
        content[f"lineage/{name}.jsonl"] = run.file.read_bytes()
        if (run.folder / FILE).exists():
            content[f"manifests/{name}.yaml"] = (run.folder / FILE).read_bytes()
    quoted = _files(reports)
    for name, file in quoted.items():
        content[f"reports/{name}"] = file.read_bytes()
    here = package_files("primum.alignment.trust")
    content["verify.py"] = here.joinpath("verifier.py").read_bytes()
    content["README.txt"] = READ_ME.format(when=now()).encode()
    index = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(content.items())}
    content["index.json"] = json.dumps(
        {"schema": "cts-bundle/1", "sha256": index}, indent=1
    ).encode()
    if quoted:
        store.hold("bundle", out)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content[name])
    atomic_write(out, packed.getvalue())
    return sorted(content)


def _files(paths: Iterable[str | Path]) -> dict[str, Path]:
    found = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError("There is no such report", file=path)
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                name = file.relative_to(path.parent).as_posix() if path.is_dir() else file.name
                found[name] = file
    return found
