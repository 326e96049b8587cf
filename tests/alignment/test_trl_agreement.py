"""Our losses are TRL's, on the very batch that its own trainer would see."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from primum.alignment.objectives import policy as grpo
from primum.alignment.objectives import preference as dpo
from primum.alignment.objectives import sequence_logprobs, supervised_logits
from primum.alignment.objectives.reward import bradley_terry
from primum.alignment.objectives.supervised import dynamic_fine_tuning, negative_log_likelihood
from primum.alignment.objectives.unpaired import drift_of, kto
from primum.checkpoints.tiny import make_tiny

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("trl") is None, reason="the extra peers is not installed"),
]
CLOSE = 1e-5
QUESTIONS = [f"How much is {n} and {n}?" + " Please." * n for n in range(4)]
GOOD = [f"It is {2 * n}." + " Ask again." * (n % 3) for n in range(4)]
BAD = ["No idea." + " Really." * (3 - n) for n in range(4)]


def turns(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("trl") / "tiny", "llama")


def parts(made: Path) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    return {"model": model, "processing_class": AutoTokenizer.from_pretrained(made)}


def plain(folder: Path) -> dict[str, Any]:
    """What all of TRL's configurations share."""
    return {
        "output_dir": str(folder), "use_cpu": True, "bf16": False, "fp16": False, "report_to": [],
        "per_device_train_batch_size": 4, "gradient_checkpointing": False, "disable_tqdm": True,
        "dataloader_pin_memory": False, "save_strategy": "no",
    }  # fmt: skip


def padded(batch: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """TRL's batch as ours."""
    ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
    labels = ids.masked_fill(batch[f"{prefix}completion_mask"] == 0, -100)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def moved(model: torch.nn.Module) -> None:
    """The policy is no longer the reference."""
    with torch.no_grad():
        for number, weight in enumerate(model.parameters()):
            random = torch.Generator().manual_seed(number)
            weight.add_(0.01 * torch.randn(weight.shape, generator=random))


@pytest.fixture(scope="module")
def preference(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """TRL's DPO trainer, a batch of its own, and our pairs of the same batch."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [
        {"prompt": turns("user", q), "chosen": turns("assistant", a),
         "rejected": turns("assistant", b)}
        for q, a, b in zip(QUESTIONS, GOOD, BAD, strict=True)
    ]  # fmt: skip
    trainer = DPOTrainer(
        args=DPOConfig(**plain(tmp_path_factory.mktemp("dpo")), beta=0.3),
        train_dataset=Dataset.from_list(rows), **parts(made),
    )  # fmt: skip
    moved(trainer.model)
    batch = next(iter(trainer.get_train_dataloader()))
    policy = sequence_logprobs(trainer.model, padded(batch))
    reference = sequence_logprobs(trainer.ref_model, padded(batch)).total()
    half = len(reference) // 2  # TRL puts all chosen answers before all rejected ones
    total, lengths = policy.total(), policy.lengths
    pairs = dpo.Pairs(
        total[:half], total[half:], lengths[:half], lengths[half:],
        reference[:half].detach(), reference[half:].detach(),
    )  # fmt: skip
    return trainer, batch, pairs


@pytest.mark.parametrize(
    ("theirs", "smoothing", "ours"),
    [
        (["sigmoid"], 0.0, dpo.sigmoid),
        (["robust"], 0.2, partial(dpo.robust, smoothing=0.2)),
        (["hinge"], 0.0, dpo.hinge),
        (["ipo"], 0.0, dpo.ipo),
        (["sigmoid_norm"], 0.0, dpo.sigmoid_norm),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_dpo(preference: Any, theirs: list[str], smoothing: float, ours: Any) -> None:
    trainer, batch, pairs = preference
    trainer.loss_types, trainer.loss_weights = theirs, [1.0]
    trainer.label_smoothing = smoothing
    wanted = trainer._compute_loss(trainer.model, dict(batch), False)
    loss = ours(pairs, beta=0.3).mean()
    assert float(loss) == pytest.approx(float(wanted), abs=CLOSE, rel=CLOSE)
    weights = list(trainer.model.parameters())
    for one, other in zip(
        torch.autograd.grad(loss, weights, retain_graph=True),
        torch.autograd.grad(wanted, weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=CLOSE)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cpo_simpo_and_conservative_dpo(preference: Any, smoothing: float) -> None:
    from types import SimpleNamespace

    from trl.experimental.cpo import CPOTrainer

    _, _, pairs = preference
    options = {"alpha": 0.0, "beta": 2.0, "label_smoothing": smoothing, "simpo_gamma": 0.6}
    accelerator = SimpleNamespace(device="cpu")
    trainer = SimpleNamespace(**options, accelerator=accelerator, loss_type="simpo")
    means = (pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens)
    wanted, *_ = CPOTrainer.cpo_loss(trainer, *means)  # type: ignore[arg-type]
    torch.testing.assert_close(
        dpo.simpo(pairs, 2.0, 0.6, smoothing), wanted, rtol=CLOSE, atol=CLOSE
    )
    trainer.loss_type = "sigmoid"
    wanted, *_ = CPOTrainer.cpo_loss(trainer, pairs.chosen, pairs.rejected)  # type: ignore[arg-type]
    ours = dpo.cpo(pairs, 2.0, alpha=0.0, smoothing=smoothing)
    torch.testing.assert_close(ours, wanted, rtol=CLOSE, atol=CLOSE)
    conservative = dpo.sigmoid(
        dpo.Pairs(pairs.chosen, pairs.rejected, pairs.chosen_tokens, pairs.rejected_tokens,
                  torch.zeros(4), torch.zeros(4)),
        2.0, smoothing,
    )  # fmt: skip
    torch.testing.assert_close(conservative, wanted, rtol=CLOSE, atol=CLOSE)


def test_orpo(preference: Any) -> None:
    from types import SimpleNamespace

    from trl.experimental.orpo import ORPOTrainer

    _, _, pairs = preference
    trainer = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    means = (pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens)
    odds, *_ = ORPOTrainer.odds_ratio_loss(trainer, *means)  # type: ignore[arg-type]
    torch.testing.assert_close(dpo.orpo(pairs, 0.3), -means[0] - odds, rtol=CLOSE, atol=CLOSE)


def test_kto(made: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    rows = [
        {"prompt": turns("user", q), "completion": turns("assistant", a), "label": n % 3 > 0}
        for n, (q, a) in enumerate(zip(QUESTIONS, GOOD, strict=True))
    ]
    trainer = KTOTrainer(
        args=KTOConfig(**plain(tmp_path), beta=0.3, desirable_weight=1.2, undesirable_weight=0.8),
        train_dataset=Dataset.from_list(rows), **parts(made),
    )  # fmt: skip
    moved(trainer.model)
    batch = next(iter(trainer.get_train_dataloader()))
    wanted = trainer._compute_loss(trainer.model, dict(batch), False)
    own, strange = (
        sequence_logprobs(trainer.model, padded(batch, prefix)).total()
        - sequence_logprobs(trainer.ref_model, padded(batch, prefix)).total().detach()
        for prefix in ("", "KL_")
    )
    good = torch.as_tensor(batch["label"], dtype=torch.bool)
    loss = kto(own, good, drift_of(strange), 0.3, 1.2, 0.8).mean()
    assert float(loss) == pytest.approx(float(wanted), abs=CLOSE)


@pytest.mark.parametrize("loss_type", ["nll", "dft"])
def test_sft(made: Path, tmp_path: Path, loss_type: str) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"prompt": turns("user", q), "completion": turns("assistant", a)}
        for q, a in zip(QUESTIONS, GOOD, strict=True)
    ]
    trainer = SFTTrainer(
        args=SFTConfig(**plain(tmp_path), loss_type=loss_type),
        train_dataset=Dataset.from_list(rows), **parts(made),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    wanted = trainer.compute_loss(trainer.model, dict(batch))
    ours = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    logits, targets = supervised_logits(trainer.model, **ours)
    loss = {"nll": negative_log_likelihood, "dft": dynamic_fine_tuning}[loss_type]
    assert float(loss(logits, targets) / len(targets)) == pytest.approx(float(wanted), abs=CLOSE)


def test_reward_model(made: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    rows = [
        {"chosen": turns("user", q) + turns("assistant", a), "margin": 0.25 * n,
         "rejected": turns("user", q) + turns("assistant", b)}
        for n, (q, a, b) in enumerate(zip(QUESTIONS, GOOD, BAD, strict=True))
    ]  # fmt: skip
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(made, num_labels=1),
        processing_class=AutoTokenizer.from_pretrained(made),
        args=RewardConfig(**plain(tmp_path), center_rewards_coefficient=0.05),
        train_dataset=Dataset.from_list(rows),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    wanted = trainer.compute_loss(trainer.model, dict(batch))
    margin = batch.pop("margin")
    scores = trainer.model(**batch).logits.squeeze(-1)
    chosen, rejected = scores.chunk(2)
    ours = bradley_terry(chosen, rejected, margin, 0.05).mean()
    assert float(ours) == pytest.approx(float(wanted), abs=CLOSE)


@pytest.fixture(scope="module")
def policy(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """TRL's GRPO trainer, and a batch of 4 answers, some far from their origin."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    folder = tmp_path_factory.mktemp("grpo")
    trainer = GRPOTrainer(
        args=GRPOConfig(**plain(folder), num_generations=2, max_completion_length=8, beta=0.05),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_list([{"prompt": turns("user", q)} for q in QUESTIONS]),
        **parts(made),
    )
    trainer.current_gradient_accumulation_steps = 1
    random = torch.Generator().manual_seed(5)
    shape = (4, 8)
    mask = torch.tensor([[1] * n + [0] * (8 - n) for n in (8, 3, 5, 1)])
    batch = {
        "prompt_ids": torch.randint(20, 200, (4, 6), generator=random),
        "prompt_mask": torch.ones(4, 6, dtype=torch.long),
        "completion_ids": torch.randint(20, 200, shape, generator=random),
        "completion_mask": mask,
        "advantages": torch.tensor([1.2, -0.7, 0.3, -1.5]),
        "num_items_in_batch": mask.sum(),
    }
    batch["new"] = new_logprobs(trainer.model, batch)
    start = torch.zeros(shape)
    start[mask.bool()] = batch["new"].detach()
    batch["old_per_token_logps"] = start + 0.4 * torch.randn(shape, generator=random)
    batch["ref_per_token_logps"] = start + 0.2 * torch.randn(shape, generator=random)
    return trainer, batch


def new_logprobs(model: Any, batch: dict[str, Tensor]) -> Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :6] = -100
    given = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return sequence_logprobs(model, given).tokens


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("kind", ["grpo", "dr_grpo", "dapo", "bnpo", "gspo", "cispo"])
def test_grpo(policy: tuple[Any, dict[str, Any]], kind: grpo.Kind, unbiased: bool) -> None:
    trainer, batch = policy
    trainer.args.use_bias_correction_kl = unbiased
    trainer.loss_type = "grpo" if kind == "gspo" else kind
    trainer.importance_sampling_level = "sequence" if kind == "gspo" else "token"
    trainer.epsilon_low, trainer.epsilon_high = (0.2, 5.0 if kind == "cispo" else 0.28)
    trainer.args.steps_per_generation = 1
    given = {name: value for name, value in batch.items() if name != "new"}
    wanted = trainer._compute_loss(trainer.model, given)

    kept = batch["completion_mask"].bool()
    owners = kept.nonzero()[:, 0]
    losses = grpo.token_losses(
        batch["new"], batch["old_per_token_logps"][kept], batch["advantages"], owners, kind,
        grpo.Clip(0.2, 0.28), batch["ref_per_token_logps"][kept], 0.05, unbiased,
    )  # fmt: skip
    lengths = kept.sum(1).tolist()
    weights = grpo.token_weights(kind, lengths, longest=8)
    loss = (losses * weights[owners]).sum() / grpo.step_total(kind, lengths)
    assert float(loss) == pytest.approx(float(wanted), abs=CLOSE)
    torch.testing.assert_close(
        torch.autograd.grad(loss, trainer.model.lm_head.weight, retain_graph=True),
        torch.autograd.grad(wanted, trainer.model.lm_head.weight),
        rtol=1e-4, atol=CLOSE,
    )  # fmt: skip


def test_group_advantages(policy: tuple[Any, dict[str, Any]]) -> None:
    rewards = torch.tensor([0.0, 1.0, 0.5, 0.5, 0.25, 0.75])
    groups = rewards.view(-1, 2)  # TRL 1.16, grpo_trainer.py: (r - mean) / (std + 1e-4)
    wanted = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(grpo.group_advantages(rewards, 2), wanted.flatten())
