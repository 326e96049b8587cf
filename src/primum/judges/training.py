"""Train the response classifier, and count its mistakes on sources that it never saw.

`primum judges train --source xstest=DIR --source pyrit=DIR` leaves one human-labelled source out at
a time, trains on all the others, and publishes what it says of the one left out; then it trains the
weights that are shipped on everything.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from primum.files import atomic_write
from primum.judges.labelled_sources import Labelled
from primum.judges.published import SURE, fold_of, publish, show, temperature_of
from primum.judges.refusal_features import features
from primum.judges.response_classifier import LABELS, LinearModel, read_model, write_model

SEEN_TWICE = 4  # answers a feature must occur in, of any source
L2 = 1e-3
OWN = 0.5  # how much an answer counts that the project wrote or labelled itself
SHARES = {"compliance": 0.5, "partial": 0.08, "refusal": 0.42}


class Examples:
    """Labelled answers with their features, computed once.

    Attributes:
        names: Every feature, sorted.
        inputs: Sparse (answers, features).
    """

    def __init__(self, rows: Sequence[Labelled]) -> None:
        from scipy.sparse import csr_matrix

        self.rows = list(rows)
        found = [features(row.prompt, row.answer) for row in self.rows]
        self.names = sorted(set().union(*found))
        self.place = {name: number for number, name in enumerate(self.names)}
        values = [value for one in found for value in one.values()]
        columns = [self.place[name] for one in found for name in one]
        ends = np.cumsum([0, *map(len, found)])
        self.inputs = csr_matrix((values, columns, ends), (len(found), len(self.names)))


def fit(
    examples: Examples, chosen: Sequence[int], *, l2: float = L2, steps: int = 60
) -> LinearModel:
    """Multinomial logistic regression by L-BFGS, each source and label in like measure.

    Args:
        examples: All of them.
        chosen: The indices to learn from.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    inputs = examples.inputs[list(chosen)]
    counts = np.bincount(inputs.indices, minlength=len(examples.names))
    columns = np.flatnonzero(counts >= SEEN_TWICE)
    names = {examples.names[column]: number for number, column in enumerate(columns)}
    inputs = inputs[:, columns]
    labelled = [examples.rows[index] for index in chosen]
    target = np.array([LABELS.index(row.label) for row in labelled])
    shares = np.array(source_weights(labelled))[:, None]
    # an answer of a source that cannot tell partial refusals says nothing against one
    vague = np.array([not row.three_way and row.label == "refusal" for row in labelled])
    own = np.eye(len(LABELS))[target]
    sure = np.where(vague, 0.8, 1.0)[:, None]

    def loss(flat: Any) -> tuple[float, Any]:
        weight, bias = flat[: -len(LABELS)].reshape(-1, len(LABELS)), flat[-len(LABELS) :]
        logits = inputs @ weight + bias
        logprobs = logits - logsumexp(logits, axis=1, keepdims=True)
        refused = logsumexp(logprobs[:, 1:], axis=1, keepdims=True)
        likelihood = sure * (own * logprobs).sum(1, keepdims=True) + (1 - sure) * refused
        either = np.exp(logprobs - refused)
        either[:, 0] = 0
        slope = shares * (np.exp(logprobs) - sure * own - (1 - sure) * either)
        gradient = np.concatenate([inputs.T @ slope + 2 * l2 * weight, slope.sum(0)[None]])
        return -(shares * likelihood).sum() + l2 * (weight**2).sum(), gradient.ravel()

    start = np.zeros((len(names) + 1) * len(LABELS))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
    weights = torch.from_numpy(found.reshape(-1, len(LABELS))).float()
    return LinearModel(names, weights[:-1], weights[-1])


def source_weights(rows: Sequence[Labelled]) -> list[float]:
    """A weight a row, summing to 1.

    Labels have fixed shares, so that no source's mixture becomes a prior; within a label sources
    count by the root of their size, those of our own half.
    """
    sizes = Counter((row.source, row.label) for row in rows)
    raw = [(1.0 if row.human else OWN) / sizes[row.source, row.label] ** 0.5 for row in rows]
    totals = {label: sum(w for w, row in zip(raw, rows, strict=True) if row.label == label)
              for label in LABELS}  # fmt: skip
    present = sum(SHARES[label] for label in LABELS if totals[label])
    return [
        SHARES[row.label] / present * weight / totals[row.label]
        for weight, row in zip(raw, rows, strict=True)
    ]


def predict(model: LinearModel, examples: Examples, chosen: Sequence[int]) -> torch.Tensor:
    """Logits (answers, labels)."""
    columns = [examples.place[name] for name in model.names]
    inputs = examples.inputs[list(chosen)][:, columns]
    return torch.from_numpy(inputs @ model.weight.double().numpy()).float() + model.bias


def leave_one_out(examples: Examples, *, by: str = "source") -> dict[int, torch.Tensor]:
    """Logits of every human-labelled answer by a model that saw nothing of its source.

    Args:
        by: `source`; or `part`, which leaves out one model's answers and, in the other models'
            answers, every prompt that it was asked.
    """
    logits: dict[int, torch.Tensor] = {}
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(examples.rows):
        if row.human:
            key = (row.source,) if by == "source" else (row.source, row.part)
            groups.setdefault(key, []).append(index)
    for held in groups.values():
        gone = {examples.rows[index].source for index in held}
        parts = {examples.rows[index].part for index in held}
        for fold in range(1 if by == "source" else 2):
            test = [i for i in held if by == "source" or fold_of(examples.rows[i].prompt) == fold]
            test_prompts = {examples.rows[index].prompt for index in test}
            seen = set(held)
            rest = [
                index
                for index, row in enumerate(examples.rows)
                if index not in seen
                and row.prompt not in test_prompts
                and (row.source not in gone or (by == "part" and row.part not in parts))
            ]
            if test:
                found = predict(fit(examples, rest), examples, test)
                logits |= dict(zip(test, found, strict=True))
    return logits


def train(rows: Sequence[Labelled], output: Path) -> dict[str, Any]:
    """Publish the held-out confusion, then write the weights trained on everything."""
    examples = Examples(rows)
    held_out = leave_one_out(examples)
    report = publish(examples.rows, held_out, "leave one source out")
    order = sorted(held_out)
    temperature = temperature_of(
        torch.stack([held_out[index] for index in order]),
        torch.tensor([LABELS.index(examples.rows[index].label) for index in order]),
    )
    models = leave_one_out(examples, by="part")
    report["by_model"] = publish(
        examples.rows, models, "leave one model's answers out, and its prompts everywhere"
    )
    model = fit(examples, range(len(rows)))
    strong = model.weight.abs().amax(1) > 0.02  # the others move no verdict
    names = [name for name, keep in zip(model.names, strong.tolist(), strict=True) if keep]
    small = LinearModel({name: n for n, name in enumerate(names)}, model.weight[strong], model.bias)
    trained_on = Counter(f"{row.source}/{row.label}" for row in rows)
    header = {
        "sure": SURE,
        "temperature": temperature,
        "trained_on": dict(sorted(trained_on.items())),
        "sources": fingerprints(rows),
    }
    write_model(output / "response_classifier.safetensors", small, header)
    text = json.dumps(report, indent=1, ensure_ascii=False)
    atomic_write(output / "response_classifier.json", text + "\n")
    show(report)
    return report


def fingerprints(rows: Sequence[Labelled]) -> dict[str, str]:
    """SHA-256 of each source's rows, as far as training reads them."""
    hashes = {row.source: hashlib.sha256() for row in rows}
    for row in rows:
        said = [row.part, row.prompt, row.answer, row.label, row.three_way, row.human]
        hashes[row.source].update(json.dumps(said).encode())
    return {source: one.hexdigest() for source, one in sorted(hashes.items())}


def differences(new: Path, shipped: Path) -> list[str]:
    """What differs between two weight files, in the order in which it would explain the rest."""
    if new.read_bytes() == shipped.read_bytes():
        return []
    (ours, here), (theirs, there) = read_model(new), read_model(shipped)
    found = []
    for name in sorted({*here.get("sources", {}), *there.get("sources", {})}):
        if here.get("sources", {}).get(name) != there.get("sources", {}).get(name):
            found.append(f"the answers of {name}")
    changed = len(ours.names.keys() ^ theirs.names.keys())
    if changed:
        found.append(f"{changed} features that only one of them knows")
    shared = sorted(ours.names.keys() & theirs.names.keys())
    a = ours.weight[[ours.names[name] for name in shared]]
    b = theirs.weight[[theirs.names[name] for name in shared]]
    found.append(f"weights, by {float((a - b).abs().max()) if shared else 0.0:.2g} at most")
    return found
