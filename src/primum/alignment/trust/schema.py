"""Is an event, or a payload, of the shape `cts-1.schema.json` promises?"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from primum.extras import require

FIVE = (
    "medical_correctness",
    "reasoning_structure",
    "information_sufficiency",
    "terminology_language",
    "clinical_utility",
)
RUBRIC = {"name": "cts/five", "low": 1, "high": 5}
KINDS = ("create", "score", "edit", "decision", "redteam", "revoke", "erase", "merge")


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the log and its payloads."""
    text = files("primum.alignment.trust").joinpath("cts-1.schema.json").read_text("utf-8")
    return json.loads(text)


@cache
def ethics() -> dict[str, str]:
    """The twenty dimensions by number."""
    text = files("primum.alignment.trust").joinpath("ethics.json").read_text("utf-8")
    return json.loads(text)["dimensions"]


@cache
def _validator(name: str) -> Any:
    whole = dict(schema())
    del whole["$id"]
    rust = require("jsonschema_rs", "alignment")
    return rust.Draft202012Validator(whole | {"$ref": f"#/$defs/{name}"})


def fault(name: str, value: Any) -> str | None:
    """What is wrong with a value of `$defs/name`; None if nothing is.

    >>> fault("revoke", {"reason": 3})
    '`reason`: 3 is not of type "string"'
    """
    validator = _validator(name)
    if validator.is_valid(value):
        return _scale(value) if name == "score" else None
    error = max(validator.iter_errors(value), key=lambda error: len(error.instance_path))
    where = ".".join(str(step) for step in error.instance_path)
    said = error.message if len(error.message) < 200 else error.message[:197] + "..."
    return f"`{where}`: {said}" if where else said


def _scale(score: dict[str, Any]) -> str | None:
    """JSON Schema cannot say that the values lie on the scale the rubric names."""
    low, high = score["rubric"]["low"], score["rubric"]["high"]
    for name, value in score["values"].items():
        if value is not None and not low <= value <= high:
            return f"`values.{name}`: {value} is not on the rubric's scale of {low} to {high}"
    return None
