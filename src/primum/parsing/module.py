"""Training of a document model: page in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from primum.errors import UserError
from primum.language.batches import IGNORED
from primum.language.lora import Lora
from primum.metrics.character_error_rate import CharacterErrorRate
from primum.metrics.page_edit_distance import line_edits
from primum.parsing.decoding.decoder import Decoder, Page
from primum.parsing.docvlm import TOKEN, DocVlmTiny
from primum.parsing.guide import Guide
from primum.parsing.line_reader import LineReader
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.reader import read_plainly
from primum.parsing.samples import Encoder, Sample
from primum.parsing.targets.adapter import AdaptedTarget, Adapter
from primum.training.finetuning import FineTuning, OptimizerBuilder
from primum.training.strategies import shards_parameters, whole_here

NOT_INPUTS = (
    "labels",
    "image_sizes",
    "read",
    "looks",
    "follows",
    "ids",
    "answer_from",
    "loss_scale",
)
FUSED = ("RMSNorm", "MLP")  # ends of class names in transformers


class ParsingModule(FineTuning):
    """A vision-language model that learns to write a page's Markdown, whole or by adapter.

    The loss of an optimizer step is the sum of -log p over its tokens divided by their number over
    all ranks and accumulated micro-batches; with `reading` that of a line reader on the encoder's
    patches is added, and that of heads which are shown where to look (docvlm-tiny alone).

    Args:
        model: A fresh docvlm-tiny, or any document model of transformers.
        optimizer: Builds the optimizer from the trainable parameters.
        adapter: Train this adapter on a frozen base; None trains every weight.
        reading: Weight of the line reader's and the guide's losses; 0 leaves them out.
        warmup: Share of the steps in which the learning rate rises from zero.
        final: Learning rate at the end, as a share of its peak; the fall is a cosine.
        checkpointing: Recompute activations in the backward pass: less memory, a third slower.
        compiled: Fuse norms and feed-forward layers by `torch.compile`: a fifth less time for
            docvlm-tiny on a CPU, after a minute's compiling; needs a C++ compiler there.
        prompt: What the model is asked.
        max_new_tokens: Of a page that is read.
        decoder: How `test` and `predict` read; None takes plain `generate`, as validation does.
    """

    def __init__(
        self,
        model: DocVlmTiny | PretrainedVlm,
        optimizer: OptimizerBuilder,
        adapter: Lora | None = None,
        reading: float = 0.0,
        warmup: float = 0.02,
        final: float = 0.05,
        checkpointing: bool = False,
        compiled: bool = False,
        prompt: str = "",
        max_new_tokens: int = 1024,
        decoder: Decoder | None = None,
    ) -> None:
        super().__init__(optimizer, warmup, final)
        if reading and not isinstance(model, DocVlmTiny):
            raise UserError(
                "The line reader is for docvlm-tiny's encoder", remedy="module.reading=0"
            )
        self.source, self.adapter, self.reading = model, adapter, reading
        self.checkpointing, self.compiled = checkpointing, compiled
        self.max_new_tokens = max_new_tokens
        self.decoder = decoder
        self.tiny = isinstance(model, DocVlmTiny)
        self.encoder = Encoder(model.processor(), prompt, token=TOKEN if self.tiny else None)
        self.reader: LineReader | None = None
        self.guide: Guide | None = None
        self.errors = CharacterErrorRate()

    def configure_model(self) -> None:
        """Build the model once, sharded where the strategy shards parameters."""
        if self.model is not None:
            return
        sharded = shards_parameters(self._trainer)
        model: Any = self.source.model()
        if self.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": sharded and bool(self.adapter)})
        if self.adapter is not None:
            with whole_here():  # PEFT fills new weights in after it has made them
                model = self.adapter.adapt(model, float32=not sharded)
            if self.checkpointing:
                model.enable_input_require_grads()
        self.model = model.train()
        if self.compiled:
            for part in model.modules():
                if type(part).__name__.endswith(FUSED):
                    part.compile(dynamic=True)
        if self.reading and isinstance(self.source, DocVlmTiny):
            sight = self.source.sight[-1]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                self.reader = LineReader(sight, model.config.text_config.vocab_size)
            self.guide = Guide(model.model.language_model)

    # learning

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if "input_ids" not in batch:
            return self.letters_step(batch)
        logits, features = self.answer_logits(batch)
        labels = batch["labels"][:, 1:][:, -logits.shape[1] :]
        known = labels != IGNORED
        loss = functional.cross_entropy(logits[known].float(), labels[known], reduction="sum")
        if self.reader and self.guide and features is not None and "read" in batch:
            read, legible = self.reader.loss(features, batch["read"])
            looked, shares = self.guide.loss(batch["looks"], batch["follows"])
            shares = {f"train/{name}": share for name, share in shares.items()}
            self.log_dict(shares | {"train/legible": legible}, prog_bar=True, batch_size=1)
            loss = loss + self.reading * (read + looked)
        loss = loss * batch["loss_scale"]
        if not bool(torch.isfinite(loss.detach())):
            raise UserError(
                f"The loss of step {self.global_step} is {loss.detach().item()}; the pages are "
                + ", ".join(batch["ids"]),
                remedy="lower the learning rate or set trainer.gradient_clip_val=1.0",
            )
        return loss

    def letters_step(self, batch: Mapping[str, Any]) -> Tensor:
        """The line reader's loss alone; all weights get a gradient, as sharding strategies want."""
        assert self.reader is not None
        features, _ = self.see(batch["pixel_values"])
        read, legible = self.reader.loss(features, batch["read"])
        self.log("train/legible", legible, prog_bar=True, batch_size=1)
        resting = sum(weight.sum() for weight in self.model.parameters())
        return self.reading * read * batch["loss_scale"] + 0.0 * resting

    def answer_logits(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Logits for all tokens from the first answer's first on, and the encoder's features.

        Returns:
            (pages, tokens, vocabulary), and for docvlm-tiny (pages, rows, columns, width).
        """
        inputs = {name: value for name, value in batch.items() if name not in NOT_INPUTS}
        kept = batch["labels"].shape[1] - batch["answer_from"] + 1  # one before, to predict it
        features = None
        if self.tiny and self.adapter is None:
            features, inputs["mm_encoder_outputs"] = self.see(inputs.pop("pixel_values"))
        logits = self.model(**inputs, logits_to_keep=kept, use_cache=False).logits
        return logits[:, :-1], features

    def see(self, pixels: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """What docvlm-tiny's encoder makes of (pages, 3, height, width).

        Returns:
            (pages, rows, columns, width), and the same as its decoder takes it.
        """
        seen = self.model.get_image_features(pixels)
        return seen.last_hidden_state.permute(0, 2, 3, 1), {"image": seen}

    def tokens_in(self, batch: Mapping[str, Any]) -> int:
        """Unpadded tokens for the throughput monitor, visual ones included."""
        return int(batch["attention_mask"].sum())

    # reading

    def validation_step(self, batch: Sequence[Sample], batch_idx: int) -> None:
        self.count(batch, self.read([sample.image for sample in batch]))

    def on_validation_epoch_end(self) -> None:
        self.log_errors("val/cer")

    def count(self, samples: Sequence[Sample], found: Sequence[str]) -> None:
        """Remember what was read wrongly."""
        edits = [
            line_edits([text], [one.markdown])[0] for one, text in zip(samples, found, strict=True)
        ]
        lengths = [len(one.markdown) for one in samples]
        device = self.device
        self.errors.update(torch.tensor(edits, device=device), torch.tensor(lengths, device=device))

    def log_errors(self, name: str) -> None:
        """Log the character error rate of what was read, and begin anew."""
        score = self.errors.compute()
        self.errors.reset()
        if score.value is not None:
            self.log(name, score.value, prog_bar=True)

    def read(self, images: Sequence[Image.Image]) -> list[str]:
        """The Markdown of some pages, by plain greedy decoding."""
        training = self.model.training
        self.model.eval()
        texts = read_plainly(self.target(), images, self.max_new_tokens)
        self.model.train(training)
        return texts

    def test_step(self, batch: Sequence[Sample], batch_idx: int) -> None:
        self.count(batch, self.decoded([sample.image for sample in batch]))

    def on_test_epoch_end(self) -> None:
        self.log_errors("test/cer")

    def predict_step(self, batch: Sequence[Sample], batch_idx: int) -> list[str]:
        return self.decoded([sample.image for sample in batch])

    def decoded(self, images: Sequence[Image.Image]) -> list[str]:
        """The Markdown of some pages, by the chosen decoder."""
        if self.decoder is None:
            return self.read(images)
        self.decoder.max_new_tokens = self.max_new_tokens
        found = self.decoder(self.target(), [Page(one) for one in images])
        return [one.text.strip() for one in found]

    def target(self) -> AdaptedTarget:
        """The model as decoding asks for it: with the prompt that it is trained on."""
        return AdaptedTarget(self.model, self.encoder.processor, Adapter(self.encoder.prompt))

    # Lightning's hooks around it

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        if not isinstance(batch, dict):
            return batch  # pages to be read
        return {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }

    def save_pretrained(self, directory: Path, state_dict: dict[str, Tensor]) -> None:
        """Write a plain Hugging Face directory: adapter or weights, processor, tokenizer.

        Args:
            directory: An existing folder.
            state_dict: This module's whole state, gathered from all ranks.
        """
        self.model.save_pretrained(directory, state_dict=self.model_weights(state_dict))
        self.encoder.processor.save_pretrained(directory)

    def manifest_facts(self) -> dict[str, Any]:
        """What the manifest says of this model beside its weights."""
        base = {
            "name": self.source.name,
            "revision": self.source.revision,
            "files": self.source.fingerprint(),
        }
        return {"base": base, "dtype": str(self.model.dtype).removeprefix("torch.")}
