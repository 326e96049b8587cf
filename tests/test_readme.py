"""What the README shows can be typed as it stands."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from primum import conf_dir
from primum.checkpoints.tiny import make_tiny
from primum.entry.arguments import read

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[list[str]]:
    """Every call of a script in the README's shell blocks, word by word."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words[:1] == ["python"] and len(words) > 2]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_composes(words: list[str]) -> None:
    entry = Path(words[1]).stem
    overrides = read(words[2:], entry).overrides
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(entry, ["run_id=now", "paths.output=here", *overrides])
    OmegaConf.to_container(cfg, resolve=True)


def test_the_lines_of_python_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    tiny = make_tiny(tmp_path / "tiny", "llama")
    exec(code.replace("outputs/alignment/quickstart/RUN/model", str(tiny)), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target
