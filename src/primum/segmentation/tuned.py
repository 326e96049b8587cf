"""Settings that suit a backbone, as `primum segment tune` found them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from primum.errors import UserError

if TYPE_CHECKING:
    from primum.segmentation.backbones import Backbone

FILE = Path(__file__).with_suffix(".yaml")


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """What was tuned here, by the backbone's name."""
    return dict(yaml.safe_load(FILE.read_text(encoding="utf-8")) or {})


def tuned(backbone: Backbone | str) -> dict[str, Any]:
    """`layer`, `size`, `thresholds`, `centre`, `balance` for a backbone; empty when never tuned.

    Thresholds belong to one layer with one set of weights: for another there are none.
    """
    if isinstance(backbone, str):
        return dict(shipped().get(backbone, {}))
    found = dict(shipped().get(backbone.name, {}))
    layer = backbone.layer if isinstance(backbone.layer, str) else list(backbone.layer)
    if backbone.weights is not None or found.get("layer", layer) != layer:
        return {}
    return found


def read_settings(file: str | Path) -> dict[str, Any]:
    """What `primum segment tune -o FILE` wrote.

    Raises:
        UserError: It is missing or something else.
    """
    try:
        found = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("There are no such settings", file=file) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"These settings cannot be read: {error}", file=file) from None
    known = {"backbone", "weights", "layer", "size", "preset", "thresholds", "centre", "balance"}
    known |= {"found"}
    if not isinstance(found, dict) or not {"backbone", "thresholds"} <= set(found) <= known:
        raise UserError(
            "These are no settings of `primum segment`",
            file=file,
            remedy="write them with: primum segment tune FOLDER --backbone NAME -o FILE",
        )
    return found
