"""What all training of a language model shares: building it, optimizing, stopping, leaving it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor

from primum.alignment.memory import OutOfMemory
from primum.errors import UserError
from primum.language.attention import read_trees
from primum.language.chat import template_sha256
from primum.language.lora import Lora
from primum.language.source import Source
from primum.training.finetuning import FineTuning, OptimizerBuilder
from primum.training.strategies import shards_parameters, whole_here


class LanguageModule(FineTuning):
    """A language model that is trained, whole or by adapter.

    The model is built in `configure_model`, where a strategy can shard it as it loads.

    Args:
        model: The base model.
        optimizer: Builds the optimizer from the trainable parameters.
        adapter: Train this adapter on a frozen base; None trains every weight.
        warmup: Share of the steps in which the learning rate rises from zero.
        final: Learning rate at the end, as a share of its peak; the fall is a cosine.
        checkpointing: Recompute activations in the backward pass: less memory, a third slower.
    """

    task = "CAUSAL_LM"

    def __init__(
        self,
        model: Source,
        optimizer: OptimizerBuilder,
        adapter: Lora | None = None,
        warmup: float = 0.1,
        final: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(optimizer, warmup, final)
        self.source, self.adapter, self.checkpointing = model, adapter, checkpointing
        self.tokenizer = model.tokenizer()
        self.takes_trees = False

    def configure_callbacks(self) -> list[Callback]:
        return [OutOfMemory()]

    def load(self) -> Any:
        """The base model."""
        return self.source.model()

    def configure_model(self) -> None:
        """Build the model once, sharded where the strategy shards parameters."""
        if self.model is not None:
            return
        sharded = shards_parameters(self._trainer)
        model = self.load()
        self.takes_trees = read_trees(model)
        if self.checkpointing:
            # with adapters under ZeRO-3 the other way of recomputing finds weights gone
            reentrant = sharded and self.adapter is not None
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        if self.adapter is not None:
            with whole_here():  # PEFT fills new weights in after it has made them
                model = self.adapter.adapt(model, float32=not sharded, task=self.task)
            if self.checkpointing:
                model.enable_input_require_grads()
        self.model = model.train()  # it comes in evaluation mode, and Lightning leaves modes alone

    def on_fit_start(self) -> None:
        """Refuse texts beyond the model's context, on which it would give noise.

        Raises:
            UserError: A text of the data has more tokens.
        """
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        longest = getattr(getattr(self.trainer, "datamodule", None), "longest", 0)
        if context is not None and longest > context:
            raise UserError(
                f"The longest text has {longest} tokens, beyond the model's context of {context}",
                remedy=f"data.max_length={context} leaves such texts out and counts them",
            )

    def checked(self, batch: Mapping[str, Any]) -> None:
        """Refuse a batch the model cannot read.

        Raises:
            UserError: It is a row of trees, and the model's attention does not know them.
        """
        if "trees" in batch and not self.takes_trees:
            raise UserError(
                "Rows without padding need PyTorch's attention, and this model uses another",
                remedy="model.attention=sdpa, or data.packing=null and data.share_prompts=false",
            )

    def finite(self, loss: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """The loss, if it is a number; else the batch is kept and training stops.

        Raises:
            UserError: It is infinite or NaN.
        """
        if bool(torch.isfinite(loss.detach()).all()):
            return loss
        file = self.keep(batch)
        raise UserError(
            f"The loss of step {self.global_step} is {loss.detach().item()}: training stops here, "
            "and the batch is kept",
            file=file,
            remedy="look at its rows (`ids` in the file's metadata); lower the learning rate or "
            "set trainer.gradient_clip_val=1.0; resume=last goes on before it",
        )

    def keep(self, batch: Mapping[str, Any]) -> Path:
        """Write the tensors of a batch, and the ids of its rows, into the run's folder."""
        from safetensors.torch import save_file

        folder = Path(self.trainer.default_root_dir) / "nonfinite"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"step{self.global_step:06d}-rank{self.global_rank}.safetensors"
        tensors = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in batch.items()
            if isinstance(value, Tensor)
        }
        ids = "\n".join(map(str, batch.get("ids", ())))
        save_file(tensors, file, metadata={"ids": ids})
        return file

    def tokens_in(self, batch: Mapping[str, Any]) -> int:
        """Unpadded tokens for the throughput monitor; a shared prompt counts with each answer."""
        if "trees" not in batch:
            return int(batch["attention_mask"].sum())
        return sum(sizes[0] * max(1, len(sizes) - 1) + sum(sizes[1:]) for sizes in batch["trees"])

    def save_pretrained(self, directory: Path, state_dict: dict[str, Tensor]) -> None:
        """Write a plain Hugging Face directory: adapter or weights, tokenizer, template.

        Args:
            directory: An existing folder.
            state_dict: This module's whole state, gathered from all ranks.
        """
        self.model.save_pretrained(directory, state_dict=self.model_weights(state_dict))
        self.tokenizer.save_pretrained(directory)
        if getattr(self.model, "generation_config", None) is not None:
            self.model.generation_config.save_pretrained(directory)

    def manifest_facts(self) -> dict[str, Any]:
        """What the manifest says of this model beside its weights."""
        base = {
            "name": self.source.name,
            "revision": self.source.revision,
            "files": self.source.fingerprint(),
        }
        return {
            "base": base,
            "template_sha256": template_sha256(self.tokenizer),
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }
