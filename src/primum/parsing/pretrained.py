"""Any document model of transformers: from the hub, a directory, or a run of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from primum.language.precision import pick_dtype
from primum.language.source import Source, explained
from primum.parsing.targets.dots.registration import register

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin


@dataclass(frozen=True)
class PretrainedVlm:
    """A model that `AutoModelForImageTextToText` loads.

    Args:
        name: Hub id or directory.
        revision: Branch, tag or commit on the hub.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        attention: `sdpa` or `eager`, ...; transformers' own choice if None.
        trust_remote_code: Run Python code that comes with the model.
    """

    name: str
    revision: str | None = None
    dtype: str = "auto"
    attention: str | None = None
    trust_remote_code: bool = False

    @property
    def source(self) -> Source:
        """Where it lies."""
        return Source(self.name, self.revision, self.dtype, self.attention, self.trust_remote_code)

    def options(self, where: str) -> dict[str, Any]:
        """What both loaders take."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    def processor(self) -> ProcessorMixin:
        """Pictures and text to tensors.

        Raises:
            UserError: It cannot be loaded.
        """
        from transformers import AutoProcessor

        register()
        where = self.source.locate()
        with explained(self.name, where):
            return AutoProcessor.from_pretrained(where, **self.options(where))

    def model(self) -> PreTrainedModel:
        """The network in evaluation mode, on the CPU.

        Raises:
            UserError: It cannot be loaded.
        """
        return self.loaded()[0]

    def loaded(self) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The network, and which of its tensors were missing or left over.

        Raises:
            UserError: It cannot be loaded.
        """
        from transformers import AutoModelForImageTextToText

        register()
        where = self.source.locate()
        options = self.options(where)
        if self.attention is not None:
            options["attn_implementation"] = self.attention
        with explained(self.name, where):
            found: Any = AutoModelForImageTextToText.from_pretrained(
                where, dtype=pick_dtype(requested=self.dtype), output_loading_info=True, **options
            )
        model, told = found
        return model.eval(), told

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of the files that decide what it writes."""
        return self.source.fingerprint()
