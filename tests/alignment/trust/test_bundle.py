"""The evidence in one file, checked by a verifier that needs only Python."""

import ast
import hashlib
import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.alignment.trust.rows import CURATOR, create, reviewer, ward

from primum.alignment.trust import verifier
from primum.alignment.trust.bundle import bundle
from primum.alignment.trust.erase import erase
from primum.alignment.trust.keys import Key
from primum.alignment.trust.sealing import seal
from primum.alignment.trust.store import Store
from primum.errors import UserError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store, _ = ward(tmp_path, 2)
    seal(store, reviewer(tmp_path / "board", store, "board", "curator"))
    erase(store, "row-1", "consent withdrawn", CURATOR)
    ledger = {"schema": "cts-lineage/1", "run_id": "r", "name": "a/b", "folder": "gone",
              "head": store.events[-2].hash}  # fmt: skip
    rows = {
        "attempt": 0,
        "epoch": 0,
        "from_step": 0,
        "to_step": 1,
        "rows": {"row-0": 1, "row-1": 1},
    }
    (store.path / "lineage" / "a-b--r.jsonl").write_text(
        json.dumps(ledger) + "\n" + json.dumps(rows) + "\n"
    )
    return store


def unpacked(store: Store, folder: Path) -> Path:
    bundle(store, folder / "evidence.zip")
    with zipfile.ZipFile(folder / "evidence.zip") as archive:
        archive.extractall(folder / "evidence")
    return folder / "evidence"


@pytest.mark.process
def test_the_verifier_runs_in_a_bare_virtual_environment(store: Store, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("{}")
    names = bundle(store, tmp_path / "evidence.zip", [report])
    assert {"log.jsonl", "reviewers.json", "reports/report.json", "verify.py"} <= set(names)
    with zipfile.ZipFile(tmp_path / "evidence.zip") as archive:
        archive.extract("verify.py", tmp_path)
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    command = [str(python), "-I", str(tmp_path / "verify.py"), str(tmp_path / "evidence.zip")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("WHOLE\n")
    assert "11 events in one chain, 8 of them signed" in done.stdout
    assert "erased since: row-1" in done.stdout
    empty = [str(python), "-c", "import primum"]
    assert subprocess.run(empty, capture_output=True, env={}).returncode == 1


def test_the_verifier_is_short_and_its_own() -> None:
    text = Path(verifier.__file__).read_text()
    assert len(text.splitlines()) <= 200
    assert "primum." not in text.replace("primum/alignment", "")
    imports = [one for one in ast.walk(ast.parse(text)) if isinstance(one, ast.Import)]
    froms = [one.module for one in ast.walk(ast.parse(text)) if isinstance(one, ast.ImportFrom)]
    imported = {alias.name for one in imports for alias in one.names} | set(froms)
    assert imported <= set(sys.stdlib_module_names)


def test_it_finds_what_was_changed_in_an_unpacked_bundle(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unpacked(store, tmp_path)
    assert verifier.main([str(folder)]) == 0
    board = json.loads(next((folder / "seals").iterdir()).read_text())["public"]
    assert verifier.main([str(folder), "--by", board]) == 0
    assert verifier.main([str(folder), "--by", "00" * 32]) == 1
    log = folder / "log.jsonl"
    whole = log.read_bytes()
    for changed in (whole.replace(b"physician", b"ethicist", 1), whole[:-400], whole + b"{}\n"):
        log.write_bytes(changed)
        assert verifier.main([str(folder)]) == 1
    log.write_bytes(whole)
    (folder / "more.txt").write_text("x")
    assert verifier.main([str(folder)]) == 1
    assert "not in the index: more.txt" in capsys.readouterr().out


def test_with_a_made_up_index_the_chain_and_the_seal_still_speak(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unpacked(store, tmp_path)
    lines = (folder / "log.jsonl").read_bytes().splitlines(keepends=True)

    def said(new: list[bytes]) -> str:
        (folder / "log.jsonl").write_bytes(b"".join(new))
        index = json.loads((folder / "index.json").read_text())
        index["sha256"]["log.jsonl"] = hashlib.sha256(b"".join(new)).hexdigest()
        (folder / "index.json").write_text(json.dumps(index))
        assert verifier.main([str(folder)]) == 1
        return capsys.readouterr().out

    assert "line 3: out of order" in said(lines[:2] + lines[3:])
    assert "the log was cut" in said(lines[:4])
    signature = json.loads(lines[1])["signature"]["value"]
    other = json.loads(lines[2])["signature"]["value"]
    assert "it was changed" in said(
        [lines[0], lines[1].replace(signature.encode(), other.encode())]
    )


@settings(max_examples=8, deadline=None)
@given(message=st.binary(max_size=200), flip=st.integers(0, 511))
def test_its_ed25519_agrees_with_the_library(message: bytes, flip: int) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Key("r", "physician", Ed25519PrivateKey.generate())
    value = key.sign(message)["value"]
    assert verifier.signed(key.public, message, value)
    assert not verifier.signed(key.public, message + b"x", value)
    forged = bytearray.fromhex(value)
    forged[flip // 8] ^= 1 << flip % 8
    assert not verifier.signed(key.public, message, forged.hex())


def test_rfc_8032_vectors() -> None:
    """Section 7.1, tests 1 and 2."""
    for public, message, value in (
        ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701c"
         "f9b46bd25bf5f0595bbe24655141438e7a100b"),
        ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0"
         "f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ):  # fmt: skip
        assert verifier.signed(public, bytes.fromhex(message), value)


def test_a_broken_store_makes_no_evidence(store: Store, tmp_path: Path) -> None:
    log = store.log.read_bytes()
    store.log.write_bytes(log[200:])
    with pytest.raises(UserError, match="broken at line 1"):
        bundle(store, tmp_path / "evidence.zip")
    store.log.write_bytes(log)
    with pytest.raises(UserError, match="no such report"):
        bundle(store, tmp_path / "evidence.zip", [tmp_path / "none.html"])
    store.append([create("x")])
    bundle(store, tmp_path / "evidence.zip")
    with pytest.raises(UserError, match="exists already"):
        bundle(store, tmp_path / "evidence.zip")
