"""A verified language model in memory, in float32, to merge it or to write down what it says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.checkpoints.resolve import PACKAGE, Checkpoint
from primum.checkpoints.targets import check_targets
from primum.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load(
    checkpoint: Checkpoint, base_directory: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model (an adapter on its base) and its tokenizer.

    Args:
        base_directory: Where the base lies, if it cannot be found by itself.

    Raises:
        UserError: It is no language model, or its base cannot be found.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    if checkpoint.kind == "module":
        raise UserError(
            f"`{checkpoint.name}` is no language model but the state of a module, which is plain "
            "safetensors already",
            file=checkpoint.directory,
        )
    options: dict[str, Any] = {"trust_remote_code": checkpoint.trust_remote_code}
    own = None if checkpoint.directory is None else str(checkpoint.directory)
    whole = own if checkpoint.kind == "full" and own else base_directory or located_base(checkpoint)
    if not Path(whole).is_dir():
        options["revision"] = checkpoint.base_revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(own or whole, **options)
        model = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.float32, **options)
        if checkpoint.kind == "adapter":
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(own))  # type: ignore[assignment]
        if own and (Path(own) / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(own)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"The model `{checkpoint.name}` cannot be loaded: {reason}",
            file=own,
            remedy="check the base model, or name its directory with --base DIRECTORY",
        ) from error
    return model.eval(), tokenizer


def located_base(checkpoint: Checkpoint) -> str:
    """A directory or hub id for the base model.

    A base that ships in a package or as GGUF must be converted first. The part of the module's
    config that named it knows how: it is built (through the allow-list) and asked to `locate()`.
    """
    base = str(checkpoint.base)
    if not base.startswith(PACKAGE) and not base.endswith(".gguf"):
        return base
    module = checkpoint.manifest.module if checkpoint.manifest else {}
    for node in _nodes(module):
        if "_target_" in node and node.get("name") == base:
            check_targets(
                node,
                checkpoint.trusted_modules,
                trust_remote_code=checkpoint.trust_remote_code,
            )
            from hydra.utils import instantiate

            return str(instantiate(node, _convert_="all").locate())
    raise UserError(
        f"The base model `{base}` has to be converted before it can be loaded here",
        remedy="name a Hugging Face directory of it with --base DIRECTORY",
    )


def _nodes(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        return [node] + [found for child in node.values() for found in _nodes(child)]
    if isinstance(node, list):
        return [found for child in node for found in _nodes(child)]
    return []
