"""The command line before Hydra reads it."""

import pytest

from primum.entry.arguments import read


@pytest.mark.parametrize("typed", ["experiment=a/b", "+experiment=a/b", "++experiment=a/b"])
def test_every_spelling_of_experiment_is_one(typed: str) -> None:
    assert read([typed], "train").overrides == ("+experiment=a/b",)


def test_debug_and_search_come_behind_the_experiment_wherever_they_were_typed() -> None:
    words = ["hparams_search=lr", "debug=fdr", "experiment=a/b", "seed=1"]
    assert read(words, "train").overrides == (
        "seed=1",
        "+experiment=a/b",
        "+debug=fdr",
        "+hparams_search=lr",
    )


def test_a_benchmark_is_appended_likewise() -> None:
    assert read(["benchmark=x", "limit=3"], "evaluate").overrides == ("limit=3", "+benchmark=x")


@pytest.mark.parametrize(
    "leftover",
    [["--local_rank=0"], ["--local-rank=1"], ["--local_rank", "0"], ["--local-rank", "3"]],
)
def test_a_launchers_local_rank_is_dropped(leftover: list[str]) -> None:
    assert read([*leftover, "seed=1"], "train").words == ["seed=1"]


def test_flags_go_in_front_with_their_values() -> None:
    words = ["seed=1", "-m", "--config-dir", "my/conf", "a=2", "--info", "defaults", "-c", "job"]
    typed = read(words, "train")
    assert typed.words == ["-m", "--config-dir", "my/conf", "--info", "defaults", "-c", "job",
                           "seed=1", "a=2"]  # fmt: skip
    assert typed.value("--config-dir", "-cd") == "my/conf"
    assert read(["--config-dir=my/conf"], "train").value("--config-dir") == "my/conf"


def test_info_without_a_word_takes_no_override() -> None:
    assert read(["--info", "seed=1"], "train").words == ["--info", "seed=1"]


@pytest.mark.parametrize(
    ("typed", "read_as"),
    [
        ("resume=run/epoch=3.ckpt", "resume='run/epoch=3.ckpt'"),
        ("checkpoint=my runs/a", "checkpoint='my runs/a'"),
        ("endpoint=http://h/v1?a=b", "endpoint='http://h/v1?a=b'"),
        ("resume=last", "resume=last"),
        ("checkpoint='a=b'", "checkpoint='a=b'"),
        ("checkpoint=a,b", "checkpoint=a,b"),
        ("predictions=[a.jsonl,b.jsonl]", "predictions=[a.jsonl,b.jsonl]"),
    ],
)
def test_paths_hydra_would_refuse_are_quoted(typed: str, read_as: str) -> None:
    assert read([typed], "train").overrides == (read_as,)


def test_reading_twice_changes_nothing() -> None:
    once = read(["debug=fdr", "experiment=a/b", "resume=x=1.ckpt", "-m"], "train").words
    assert read(once, "train").words == once  # a rank repeats the command line
