"""Which checkpoint learned from which row, down to the step; descendants and exports included."""

import json
import shutil
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.alignment.trust.rows import CURATOR, ward

from primum.alignment.conversations import ConversationData
from primum.alignment.sft import SFTModule
from primum.alignment.trust.erase import erase
from primum.alignment.trust.events import state
from primum.alignment.trust.lineage import checkpoints, lineage_of, runs, unwanted, who_saw
from primum.alignment.trust.reading import conversations
from primum.alignment.trust.recorder import LineageRecorder, micro_batch
from primum.alignment.trust.store import Store
from primum.checkpoints.export import leave_run
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.language.source import Source
from primum.training.resume import ResumeState
from primum.training.sampling import ResumableBatchSampler


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny(tmp_path_factory.mktemp("model") / "tiny", "llama"))


class Watched(ConversationData):
    """Remembers what each batch held, by itself."""

    def collate_served(self, drawn):  # type: ignore[no-untyped-def]
        self.batches = [*getattr(self, "batches", []), [row for one in drawn for row in one.rows]]
        return super().collate_served(drawn)


def train(
    store: Store, folder: Path, tiny: str, run_id: str = "first", steps: int = 5,
    resume: str | None = None, model: Source | None = None,
) -> Watched:  # fmt: skip
    torch.manual_seed(0)
    source = model or Source(tiny, dtype="float32")
    data = Watched(source, partial(conversations, store.path), batch_size=2, max_length=4096)
    module = SFTModule(source, partial(torch.optim.AdamW, lr=0.01))
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        max_steps=steps, callbacks=[
            LineageRecorder(folder, "alignment/test", run_id), ResumeState(),
            ModelCheckpoint(folder / "checkpoints", "epoch{epoch:03d}-step{step:06d}",
                            auto_insert_metric_name=False, every_n_train_steps=2, save_top_k=-1),
        ],
    )  # fmt: skip
    (folder / "config.yaml").parent.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("name: alignment/test\n")
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    leave_run(trainer, module, {"_target_": "primum.alignment.sft.SFTModule"},
              name="alignment/test", run_id=run_id, folder=folder)  # fmt: skip
    return data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> tuple[Path, list[list[str]]]:
    folder = tmp_path_factory.mktemp("trained")
    store, _ = ward(folder, 6)
    data = train(store, folder / "runs" / "first", tiny)
    return folder, data.batches


@pytest.fixture
def copied(trained: tuple[Path, list[list[str]]], tmp_path: Path) -> tuple[Store, Path]:
    """The trained run in a fresh place, whose ledger names the old one."""
    shutil.copytree(trained[0], tmp_path, dirs_exist_ok=True)
    return Store(tmp_path / "trust"), tmp_path / "runs"


def test_each_checkpoint_saw_exactly_what_was_read_before_it(
    trained: tuple[Path, list[list[str]]],
) -> None:
    folder, batches = trained
    found = {one.step: one for one in checkpoints(Store(folder / "trust"))}
    assert set(found) == {2, 4, None}
    for step, one in found.items():
        read = [row for batch in batches[: step or 5] for row in batch]
        assert dict(one.saw) == {row: read.count(row) for row in read}
    assert sum(found[None].saw.values()) == 10


def test_revoked_and_erased_rows_are_found_in_every_checkpoint_that_saw_them(
    copied: tuple[Store, Path], trained: tuple[Path, list[list[str]]]
) -> None:
    store, root = copied
    late = next(row for row in trained[1][2] if row not in trained[1][0] + trained[1][1])
    listed, gone = who_saw(store, late, [root])
    assert ([one.step for one in listed], gone) == ([4, None], [])
    store.append([state("revoke", late, {"reason": "wrong ward"}, CURATOR)])
    done = erase(store, trained[1][0][0], "consent withdrawn", CURATOR, [root])
    assert {one.step for one in done.checkpoints} == {2, 4, None}
    whole = lineage_of(store, root / "first", [root])
    assert unwanted(store, whole.saw) == {late: "revoked", trained[1][0][0]: "erased"}
    early = next((root / "first" / "checkpoints").glob("*step000002.ckpt"))
    assert unwanted(store, lineage_of(store, early, [root]).saw) == {trained[1][0][0]: "erased"}
    assert "text" not in (root / "first" / "lineage.jsonl").read_text()


def test_a_resumed_run_goes_on_with_its_ledger(tmp_path: Path, tiny: str) -> None:
    store, _ = ward(tmp_path, 6)
    folder = tmp_path / "runs" / "first"
    train(store, folder, tiny, steps=4)
    checkpoint = next((folder / "checkpoints").glob("*step000002.ckpt"))
    train(store, folder, tiny, steps=6, resume=str(checkpoint))
    (run,) = runs(store, [tmp_path / "runs"])
    assert [(one["attempt"], one["from_step"], one["to_step"]) for one in run.ranges] == [
        (0, 0, 2), (0, 2, 4), (1, 2, 4), (1, 4, 6)
    ]  # fmt: skip
    assert sum(run.saw().values()) == 16  # both attempts count


def test_what_was_trained_on_a_model_inherits_its_rows(
    copied: tuple[Store, Path], tmp_path: Path, tiny: str
) -> None:
    store, root = copied
    first = root / "first"
    (tmp_path / "other").mkdir()
    other, _ = ward(tmp_path / "other", 1)
    child = Source(str(first / "model"), dtype="float32")
    train(other, root / "second", tiny, "second", steps=1, model=child)
    shutil.copytree(first / "model", root / "exported")
    shutil.copy(first / "manifest.yaml", root / "exported" / "manifest.yaml")
    manifest = (root / "exported" / "manifest.yaml").read_text()
    (root / "exported" / "manifest.yaml").write_text(
        manifest.replace("directory: model", "directory: .")
    )
    row = next(iter(lineage_of(store, first / "model", [root]).saw))
    listed, _ = who_saw(store, row, [root])
    paths = {one.path.relative_to(root).parts[0] for one in listed}
    assert paths == {"first", "second", "exported"}
    assert unwanted(store, lineage_of(store, root / "exported", [root]).saw) == {}


def test_data_from_elsewhere_leaves_no_ledger(tmp_path: Path, tiny: str) -> None:
    store, _ = ward(tmp_path, 1)
    with pytest.raises(UserError, match="No lineage says"):
        lineage_of(store, tiny)
    (tmp_path / "trust" / "lineage" / "x.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="no lineage of a training run"):
        runs(store)


@pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 3), (4, 2)])
def test_all_ranks_micro_batches_are_known_from_the_order_alone(
    world: int, accumulate: int
) -> None:
    samplers = [
        ResumableBatchSampler(
            37, 2, accumulate=accumulate, rank=rank, world_size=world, seed=3, lengths=range(37)
        )
        for rank in range(world)
    ]
    for sampler in samplers:
        sampler.set_epoch(2)
    dealt = list(zip(*samplers, strict=True))
    for number, batches in enumerate(dealt):
        known = micro_batch(samplers[0], samplers[0].deal(2), number)
        assert sorted(known) == sorted(int(i) for batch in batches for i in batch)
    assert len(np.unique([i for one in dealt for batch in one for i in batch])) == 37


def test_the_ledger_says_what_was_read_from_where(copied: tuple[Store, Path]) -> None:
    store, root = copied
    lines = (root / "first" / "lineage.jsonl").read_text().splitlines()
    header = json.loads(lines[0])
    assert (header["view"], header["view_rows"], header["head"]) == ("sft", 6, store.head)
    assert header["base"]["files"] and len(header["config_sha256"]) == 64
    (copy,) = (store.path / "lineage").glob("*.jsonl")
    assert copy.read_text().splitlines() == lines
