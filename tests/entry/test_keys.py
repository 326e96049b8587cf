"""A key nothing reads is refused; one that a constructor or another key takes is not."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from primum.entry.keys import refuse_unread
from primum.errors import UserError

BASE: dict[str, Any] = {
    "seed": 0,
    "paths": {"outputs": "outputs"},
    "callbacks": {"stop": {"_target_": "lightning.pytorch.callbacks.EarlyStopping"}},
    "trainer": {"_target_": "torch.nn.Linear", "in_features": 2},
    "module": {"optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}},
}


def check(*overrides: str, extra: dict[str, Any] | None = None) -> None:
    cfg = OmegaConf.merge(OmegaConf.create(BASE), OmegaConf.create(extra or {}))
    for word in overrides:
        key, _, value = word.lstrip("+").partition("=")
        OmegaConf.update(cfg, key, value)
    refuse_unread(cfg, overrides, ["experiment", "trainer"], ["seed", "callbacks", *BASE])


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("+sede=1", "did you mean `seed`"),
        ("+experimnt=a/b", "did you mean `experiment`"),
        ("+trainer.out_feature=1", "did you mean `out_features`"),
        ("++trainer.out_feature=1", "did you mean `out_features`"),
        ("+module.optimizer.momentun=0.9", "did you mean `momentum`"),
        ("+module.optimiser.momentum=0.9", "module.optimi"),
        ("+paths.scratch=/x", "nothing reads `paths.scratch`"),
        ("+callbacks.swa=1", "a part needs a class"),
        ("+foo.bar=1", "nothing reads `foo.bar`"),
    ],
)
def test_a_key_nothing_reads_is_refused(word: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        check(word)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "word",
    [
        "+trainer.out_features=3",
        "+module.optimizer.momentum=0.9",
        "+module.optimizer._convert_=all",
        "+experiment=a/b",
        "+callbacks.swa._target_=lightning.pytorch.callbacks.StochasticWeightAveraging",
        "seed=3",
    ],
)
def test_a_key_that_is_read_passes(word: str) -> None:
    if word.startswith("+experiment"):
        refuse_unread(OmegaConf.create(BASE), [word], ["experiment"], BASE)
    else:
        check(word)


def test_a_key_that_another_one_names_is_read() -> None:
    check("+shared.width=3", extra={"trainer": {"out_features": "${shared.width}"}})
    check("+paths.scratch=/x", extra={"trainer": {"out_features": "${paths.scratch}/y"}})
    check("+shared.width=3", extra={"trainer": {"out_features": "${shared}"}})


def test_a_key_that_only_names_itself_is_not_read() -> None:
    with pytest.raises(UserError):
        check("+loop.a=${loop.a}")
