"""`primum trust`, from an empty folder to evidence, as a user types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.alignment.trust.rows import AFTER, BEFORE
from tests.alignment.trust.test_review import export

from primum.alignment.trust.store import Store
from primum.checkpoints.tiny import make_tiny
from primum.cli import main

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIMUM_TRUST", str(tmp_path / "trust"))
    monkeypatch.delenv("PRIMUM_TRUST_KEY", raising=False)
    rows = [
        {"prompt": f"How much should patient {n} take?", "completion": BEFORE} for n in range(3)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def trust(*words: str) -> int:
    return main(["trust", *words])


def test_a_whole_life(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trust("init") == 0
    assert trust("key", "-o", "r-1.pem", "--reviewer", "r-1", "--role", "physician") == 0
    assert (here / "r-1.pem").stat().st_mode & 0o077 == 0
    assert trust("enrol", "r-1.pem") == 2  # the private half is refused
    assert "never the key itself" in capsys.readouterr().err
    assert trust("enrol", "r-1.pem.pub") == 0
    assert trust("import", "rows.jsonl") == 2
    assert "--licence ... --bucket ..." in capsys.readouterr().err
    assert trust("import", "rows.jsonl", "--licence", "CC0-1.0", "--bucket", "knowledge") == 0
    assert trust("assign", "--reviewers", "r-1", "--overlap", "0") == 0
    record = Store(here / "trust").events[0].record
    assert record is not None
    file = export(here / "export.json", record=record)
    assert trust("collect", str(file), "--key", "r-1.pem") == 0
    assert trust("view", "sft", "-o", "sft.jsonl") == 0
    (row,) = (here / "sft.jsonl").read_text().splitlines()
    assert json.loads(row)["messages"][-1]["content"] == AFTER
    assert trust("seal", "--key", "r-1.pem", "-o", "seal.json") == 0
    capsys.readouterr()
    assert trust("verify", "--seal", "seal.json") == 0
    assert "whole, 0 erased: 6 events, 3 signed" in capsys.readouterr().out
    assert trust("show") == trust("show", record) == trust("strikes") == trust("lineage") == 0
    assert trust("decide", record, "escalated", "--key", "r-1.pem", "--reason", "look again") == 0
    assert trust("reviewers") == 0
    assert "physician" in capsys.readouterr().out
    assert trust("reviewers", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["signed"] == 1.0
    assert trust("bundle") == 0
    other = Store(here / "trust").events[1].record
    assert other is not None
    assert trust("revoke", other, "--reason", "wrong ward") == 0
    assert trust("erase", record, "--reason", "consent withdrawn", "--json", "done.json") == 0
    assert "whole, 1 erased" in capsys.readouterr().out
    assert json.loads((here / "done.json").read_text())["records"] == [record]
    log = here / "trust" / "log.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-4]))
    assert trust("verify", "--seal", "seal.json") == 1
    assert "erased" not in capsys.readouterr().out.split("broken")[0]


def test_mistakes_are_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trust("verify") == 2
    assert trust("show") == 2
    assert "primum trust init" in capsys.readouterr().err
    trust("init")
    assert trust("init") == 2
    assert trust("seal") == 2
    assert trust("erase", "nobody", "--reason", "x") == 2
    assert trust("assign", "--reviewers", "r-9", "--overlap", "0") == 2
    assert trust("key", "-o", "k.pem", "--reviewer", "Dr. Ada", "--role", "physician") == 2
    said = capsys.readouterr().err
    assert "use a pseudonym such as r-17" in said and "primum trust enrol" in said
    assert "Traceback" not in said


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        trust("--help")
    assert "primum trust verify --seal" in capsys.readouterr().out


@pytest.mark.process
def test_train_py_trains_on_a_view_and_leaves_its_lineage(here: Path) -> None:
    trust("init")
    trust("import", "rows.jsonl", "--licence", "CC0-1.0", "--bucket", "knowledge")
    tiny = make_tiny(here / "tiny", "llama")
    command = [
        sys.executable, "train.py", "+experiment=alignment/trust_sft", f"model.name={tiny}",
        "data.train.admit=any", "trainer=cpu", "logger=none", f"paths.outputs={here}/outputs",
        "run_id=run", "data.max_length=4096",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True, timeout=250)
    run = here / "outputs" / "alignment" / "trust_sft" / "run"
    record = Store(here / "trust").events[0].record
    assert record is not None
    assert trust("lineage", "--checkpoint", str(run)) == 0
    assert trust("erase", record, "--reason", "consent withdrawn", "--json", "done.json") == 0
    done = json.loads((here / "done.json").read_text())
    held = {Path(one).resolve() for one in done["checkpoints"]}
    assert (run / "model").resolve() in held and len(held) == 2
    assert trust("lineage", "--checkpoint", str(run / "model")) == 1
