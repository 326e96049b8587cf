"""A view of a trust store as a training set; `data.train` of an experiment names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from primum.alignment.trust import views
from primum.alignment.trust.store import Store
from primum.alignment.trust.strikes import StrikePolicy
from primum.alignment.trust.views import Selection
from primum.errors import UserError
from primum.language.formats import Conversation

LEARNED = ("sft", "pref_pairs", "kto", "contrast_benign", "grpo_prompts")


def conversations(
    store: str | Path, view: str = "sft", bucket: str | None = None, **selection: Any
) -> list[Conversation]:
    """Read a view straight from its store, as it is now.

    Each conversation's `extra` has `cts_id`, `head_hash`, `store` and `view`, from which the
    lineage of the run is written, and the view's own columns (`weight`, `edited`, `label`,
    `margin`, `kind`, ...).

    Args:
        store: The trust store.
        view: One of `LEARNED`.
        bucket: Only rows of this bucket: knowledge, guard or ethic.
        selection: See `Selection`; `strikes` is a mapping of `StrikePolicy`'s arguments.

    Raises:
        UserError: There is no store or view, the log is broken, or no row is left.
    """
    if view not in LEARNED:
        raise UserError(f"There is no view `{view}` to learn", remedy=", ".join(LEARNED))
    if isinstance(selection.get("strikes"), dict):
        selection["strikes"] = StrikePolicy(**selection["strikes"])
    opened = Store(store)
    rows = views.view(opened, view, Selection(**selection))
    rows = [row for row in rows if bucket in (None, row["bucket"])]
    if not rows:
        raise UserError(
            f"The view `{view}` of this store has no rows",
            file=opened.path,
            remedy="look at it with `primum trust show`; data.train.admit=scored takes rows "
            "nobody has decided on",
        )
    origin = {"store": str(opened.path.absolute()), "view": view}
    return [_conversation(row, number, origin) for number, row in enumerate(rows, 1)]


def _conversation(row: dict[str, Any], number: int, origin: dict[str, str]) -> Conversation:
    prompt, chosen = row.get("prompt", []), row.get("chosen", row.get("completion", []))
    used = {"id", "messages", "prompt", "chosen", "completion", "rejected"}
    return Conversation(
        id=row["id"],
        messages=tuple(row.get("messages", [*prompt, *chosen])),
        rejected=tuple(row["rejected"]) if "rejected" in row else None,
        file=f"{origin['store']} ({origin['view']})",
        row=number,
        extra={name: value for name, value in row.items() if name not in used} | origin,
    )
