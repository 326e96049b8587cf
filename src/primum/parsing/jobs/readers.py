"""Which model reads, by what the user said; none is ever chosen in silence."""

from __future__ import annotations

import argparse

from primum.checkpoints.released import released_dir
from primum.errors import UserError
from primum.parsing.decoding.decoder import Decoder, Mode
from primum.parsing.jobs.served import Served
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.reader import PageReader
from primum.parsing.speculation.alignment import Alignment
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.targets.known import adapter_named, named

TINY = ("docvlm-tiny", "docvlm_tiny", "parsing/docvlm_tiny")
DEMO = (
    "docvlm-tiny is a demo only: it shows decoding at work, and does not read well enough for use;"
    " how well stands in checkpoints/parsing/docvlm_tiny.yaml"
)


def chosen_model(arguments: argparse.Namespace, local: bool = False) -> tuple[str, str]:
    """The model's name or directory, and what the user has to know of it.

    Args:
        arguments: Of the command.
        local: Whether `--model` is read here although there is an endpoint.

    Raises:
        UserError: No model was named.
    """
    name = arguments.model
    if arguments.endpoint and not local:
        return name or arguments.endpoint, ""
    if name in TINY:
        return name, DEMO
    if arguments.endpoint and not name:
        return "", ""
    if name:
        return name, ""
    raise UserError(
        "No model was named, and none is chosen for you",
        remedy="for example --model lightonai/LightOnOCR-1B-1025 (1 B weights, about 2 GB,"
        " Apache-2.0) or --model dots_ocr (3 B, about 6 GB, MIT with an agreement of its own); to"
        " see the command work without a download, --model docvlm-tiny (demo only)",
    )


def directory(name: str) -> str:
    """Where the weights lie: docvlm-tiny's in the released folder."""
    return str(released_dir() / "parsing" / "docvlm_tiny") if name in TINY else named(name)


def local(arguments: argparse.Namespace, name: str, decoding: Mode | None = None) -> PageReader:
    """The model with the chosen decoding, on its device; nothing is loaded yet."""
    where = directory(name)
    adapter = adapter_named(where)
    by_region = adapter is not None and adapter.unit == "region"
    mode: Mode = decoding or arguments.decoding or ("region" if by_region else "page")
    decoder = Decoder(
        mode,
        [] if mode == "plain" else [RegionMatch, OwnOutput, Alignment],
        batch=8 if mode in ("region", "hierarchical") else 1,
        verify=getattr(arguments, "verify", False),
    )
    dtype = arguments.dtype
    if name in TINY and dtype == "auto":
        dtype = "float32"  # where exactness is exact, and quick enough
    model = PretrainedVlm(where, dtype=dtype, trust_remote_code=arguments.trust_remote_code)
    return PageReader(model, arguments.prompt, decoder, device=arguments.device or "auto")


def served(arguments: argparse.Namespace, name: str | None) -> Served:
    """The server that was named; `name` is what it calls the model."""
    return Served(arguments.endpoint, name, arguments.prompt)
