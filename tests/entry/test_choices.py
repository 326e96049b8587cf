"""What can be chosen, and the nearest to a slip."""

from pathlib import Path

from primum import conf_dir
from primum.entry.choices import keys, names, nearest, summary


def test_an_earlier_folder_hides_a_later_one(tmp_path: Path) -> None:
    for folder, text in (("mine", "# Mine\n"), ("theirs", "# Theirs\n")):
        file = tmp_path / folder / "trainer" / "cpu.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    found = names("trainer", [tmp_path / "mine", tmp_path / "theirs"])
    assert summary(found["cpu"]) == "Mine"


def test_the_summary_is_the_first_comment_for_people(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("# @package _global_\n# Two words\nname: x\n# later\n")
    assert summary(file) == "Two words"
    file.write_text("name: x\n# later\n")
    assert summary(file) == ""


def test_the_end_of_a_key_finds_it() -> None:
    words = ["module.optimizer.lr", "module.optimizer", "trainer.max_epochs"]
    assert nearest("lr", words) == ["module.optimizer.lr"]
    assert nearest("trainer.max_epoch", words) == ["trainer.max_epochs"]
    assert nearest("optimiser.lr", words) == ["module.optimizer.lr"]
    assert nearest("zzz", words) == []


def test_every_key_of_the_primary_configs_is_explained() -> None:
    for entry in ("train", "evaluate"):
        shown = "\n".join(keys(conf_dir() / f"{entry}.yaml"))
        assert "seed=0" in shown and "${" not in shown and "defaults" not in shown
