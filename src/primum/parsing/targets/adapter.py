"""What the decoder needs to know of a released model beyond its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import torch

from primum.parsing.decoding.target import Unit
from primum.parsing.regions import Kind
from primum.parsing.samples import Encoder
from primum.parsing.surface import Surface


class Adapter:
    """How one released model is asked, and what it writes; a subclass is a model.

    Args:
        prompt: Asked of a page instead of the model's own prompt.

    Attributes:
        name: Of its entry in `checkpoints/parsing` and of its file in `conf/target`.
        hub: Where the release lies.
        model_types: As in the config.json of releases that are asked in this way.
        unit: What the model was made to read at once.
        surface: How it writes.
        page: Its prompt for a page.
        regions: Its prompts for crops, where they differ from the page's.
        keeps_tags: Whether it writes its mark-up in special tokens.
        ends: Tokens that end an answer besides those that its configuration names.
    """

    name: ClassVar[str] = ""
    hub: ClassVar[str] = ""
    model_types: ClassVar[tuple[str, ...]] = ()
    unit: Unit = "page"
    surface: Surface = Surface(formula=("$$", "$$"))
    page: ClassVar[str] = ""
    regions: ClassVar[Mapping[Kind, str]] = {}
    keeps_tags: ClassVar[bool] = False
    ends: ClassVar[tuple[str, ...]] = ()

    def __init__(self, prompt: str = "") -> None:
        self.prompt = prompt

    def identity(self) -> dict[str, Any]:
        """What its prompts depend on."""
        return {"name": self.name or None, **vars(self)} | {"surface": repr(self.surface)}

    def page_prompt(self, size: tuple[int, int]) -> str:
        """What is asked of a page of so many pixels."""
        return self.prompt or self.page

    def region_prompt(self, kind: Kind, size: tuple[int, int]) -> str:
        """What is asked of a crop."""
        return self.regions.get(kind, self.page_prompt(size))

    def inputs(self, processor: Any, image: Any, prompt: str) -> dict[str, Any]:
        """The model's inputs for one picture (PIL, RGB): by the processor's chat template."""
        return Encoder(processor, prompt).inputs([image])

    def golden(self, weights: str, file: str, dtype: str = "auto") -> tuple[bool, list[str]]:
        """Let these weights read the golden pages; see `primum.parsing.targets.verifying`."""
        from primum.parsing.targets.verifying import verify

        return verify(self, weights, file, dtype)

    def tiny(self, folder: str | Path, seed: int = 0) -> Path:
        """Write a random checkpoint of this architecture; see `primum.parsing.targets.tiny`."""
        from primum.parsing.targets.tiny import make_tiny

        return make_tiny(self.name, folder, seed)


class AdaptedTarget:
    """A model behind its adapter, as decoding asks for it.

    Args:
        model: What is decoded.
        processor: Its pictures and text to tensors.
        adapter: How it is asked.
        surface: How it writes, where that is not the adapter's.
    """

    def __init__(
        self, model: Any, processor: Any, adapter: Adapter, surface: Surface | None = None
    ) -> None:
        self.model, self.processor, self.adapter = model, processor, adapter
        self.surface = surface or adapter.surface
        self.unit: Unit = adapter.unit
        self.tokenizer = processor.tokenizer
        self._taken = taken(model)
        self._end()

    def page_inputs(self, image: Any) -> dict[str, Any]:
        """The model's inputs for a page, where the model is."""
        prompt = self.adapter.page_prompt(image.size)
        return self._placed(self.adapter.inputs(self.processor, image, prompt))

    def region_inputs(self, image: Any, kind: Kind) -> dict[str, Any]:
        """The model's inputs for a crop."""
        prompt = self.adapter.region_prompt(kind, image.size)
        return self._placed(self.adapter.inputs(self.processor, image, prompt))

    def encode(self, text: str) -> Sequence[int]:
        """Text to tokens, no special ones."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids  # any length

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens to text, special ones left out but for tags."""
        if not self.adapter.keeps_tags:
            return self.tokenizer.decode(tokens, skip_special_tokens=True)
        silent = self.silent()
        kept = [token for token in tokens if token not in silent]
        return self.tokenizer.decode(kept, skip_special_tokens=False)

    def silent(self) -> frozenset[int]:
        """Tokens that begin, end or fill a sequence."""
        config, mine = self.model.generation_config, self.tokenizer
        given = [config.eos_token_id, config.bos_token_id, config.pad_token_id]
        given += [mine.eos_token_id, mine.bos_token_id, mine.pad_token_id]
        flat = [one for ids in given for one in (ids if isinstance(ids, list) else [ids])]
        return frozenset(one for one in flat if one is not None)

    def _end(self) -> None:
        """Let the adapter's own tokens end an answer too."""
        if not self.adapter.ends:
            return
        config = self.model.generation_config
        known = config.eos_token_id
        ids = list(known) if isinstance(known, list) else [known] if known is not None else []
        more = self.tokenizer.convert_tokens_to_ids(list(self.adapter.ends))
        config.eos_token_id = [*ids, *(one for one in more if one not in ids)]

    def _placed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: value.to(self.model.device) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
            if name in self._taken
        }


def taken(model: Any) -> frozenset[str]:
    """Inputs that `generate` takes; some processors give more, which it would refuse."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    methods = [inner.prepare_inputs_for_generation, inner.forward]
    if inner.config.is_encoder_decoder:
        methods.append(inner.get_encoder().forward)
    return frozenset(name for one in methods for name in signature(one).parameters)
