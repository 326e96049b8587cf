"""The loader and the progress callbacks inside a real trainer."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from tests.training.ranks import printed, run
from tests.training.run import Points, count
from torch import nn
from torch.utils.data import DataLoader

from primum.training.loading import ResumableLoader
from primum.training.progress import StepLoss, Throughput
from primum.training.sampling import UnrepeatedDistributedSampler


class Recorder(L.LightningModule):
    """Keeps the batches it was given."""

    def __init__(self, size: int = 20, **options: Any) -> None:
        super().__init__()
        self.net = nn.Linear(8, 1)
        self.size, self.options = size, options
        self.batches: list[dict[str, Any]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.batches.append({"ids": batch["id"].tolist(), "scale": batch.get("loss_scale")})
        return self.net(batch["x"]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self) -> DataLoader:
        return ResumableLoader(Points(self.size), self.trainer, batch_size=2, **self.options)


def fit(module: Recorder, folder: Path, **options: Any) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **({"max_epochs": 1} | options),
    )
    trainer.fit(module)
    return trainer


def test_scales_make_the_weights_of_a_step_sum_to_one(tmp_path: Path) -> None:
    module = Recorder(weigh=count)
    fit(module, tmp_path, accumulate_grad_batches=5)
    assert len(module.batches) == 10
    for step in (module.batches[:5], module.batches[5:]):
        weight = sum(2 if i % 2 == 0 else 1 for batch in step for i in batch["ids"])
        assert {batch["scale"] for batch in step} == {5 / weight}  # Lightning divides by 5


def test_a_cut_epoch_weighs_only_the_batches_it_takes(tmp_path: Path) -> None:
    module = Recorder(weigh=count)
    fit(module, tmp_path, accumulate_grad_batches=5, limit_train_batches=7)
    assert len(module.batches) == 7
    weight = sum(2 if i % 2 == 0 else 1 for batch in module.batches[5:] for i in batch["ids"])
    assert {batch["scale"] for batch in module.batches[5:]} == {5 / weight}


def test_a_step_without_any_weight_has_no_loss_instead_of_an_infinite_one(tmp_path: Path) -> None:
    module = Recorder(weigh=lambda batch: 0.0)
    fit(module, tmp_path)
    assert {batch["scale"] for batch in module.batches} == {0.0}


def test_overfitting_shows_the_same_batches_each_epoch(tmp_path: Path) -> None:
    module = Recorder()
    fit(module, tmp_path, overfit_batches=2, max_epochs=3)
    assert [batch["ids"] for batch in module.batches] == [[0, 1], [2, 3]] * 3


def test_epochs_differ_in_order_and_the_global_randomness_is_left_alone(tmp_path: Path) -> None:
    module = Recorder()
    before = torch.get_rng_state()
    fit(module, tmp_path, max_epochs=2)
    assert torch.equal(torch.get_rng_state(), before)
    first, second = module.batches[:10], module.batches[10:]
    assert first != second
    assert sorted(i for batch in second for i in batch["ids"]) == list(range(20))


def test_a_step_s_loss_is_the_mean_over_its_micro_batches(tmp_path: Path) -> None:
    class Known(Recorder):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
            return self.net(batch["x"]).sum() * 0 + float(batch_idx)

    every, second = StepLoss(), StepLoss(every=2)
    fit(Known(), tmp_path, accumulate_grad_batches=4, callbacks=[every, second], max_epochs=2)
    assert every.trace == list(enumerate([1.5, 5.5, 9.5] * 2, start=1))
    assert second.trace == every.trace[1::2]


def test_throughput_counts_tokens_where_the_module_can(tmp_path: Path) -> None:
    class Tokens(Recorder):
        def tokens_in(self, batch: dict[str, Any]) -> int:
            return 100 * len(batch["id"])

    plain = fit(Recorder(), tmp_path, callbacks=[Throughput(every=5)]).logged_metrics
    tokens = fit(Tokens(), tmp_path, callbacks=[Throughput(every=5)]).logged_metrics
    assert plain["train/samples_per_second"] > 10
    assert tokens["train/tokens_per_second"] > 1000
    assert 0.05 < tokens["memory/peak_gib"] < 100


class Counter(L.LightningModule):
    """An evaluation that writes down which cases it saw."""

    def __init__(self, folder: str, cases: int) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # one case, two ranks
        self.folder, self.cases, self.seen = Path(folder), cases, []  # type: ignore[var-annotated]

    def test_dataloader(self) -> DataLoader:
        cases = list(range(self.cases))
        sampler = UnrepeatedDistributedSampler(cases, self.global_rank, self.trainer.world_size)
        return DataLoader(cases, sampler=sampler, batch_size=2)  # type: ignore[arg-type]

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.seen += batch.tolist()

    def on_test_end(self) -> None:
        (self.folder / f"seen{self.global_rank}.json").write_text(json.dumps(self.seen))


def evaluate(folder: str, cases: int) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    trainer.test(Counter(folder, cases))


@pytest.mark.process
@pytest.mark.parametrize("cases", [11, 1])
def test_two_ranks_evaluate_each_case_once(tmp_path: Path, cases: int) -> None:
    assert run(evaluate, str(tmp_path), cases, ranks=2, folder=tmp_path) == [0, 0], printed(
        tmp_path
    )
    # Lightning calls no hook at all on a rank without cases
    seen = [json.loads(file.read_text()) for file in tmp_path.glob("seen*.json")]
    assert sorted(case for rank in seen for case in rank) == list(range(cases))
