"""One forward that verifies: trees by a mask and explicit positions, or chains where that fails."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from primum.parsing.decoding.cache import SlotCache, takes_trees
from primum.parsing.decoding.prefill import Prefilled
from primum.parsing.speculation.tree import Tree

TREE_ATTENTION = frozenset({"eager", "sdpa"})  # kinds that take an additive 4-D mask


class Steps(Protocol):
    """Verifies trees and keeps what was accepted."""

    @property
    def trees(self) -> bool:
        """Whether trees are taken, or only chains."""

    @property
    def cache(self) -> Any:
        """Where the keys and values are."""

    def verify(self, roots: Sequence[int], trees: Sequence[Tree]) -> list[Tensor]:
        """Logits after each node: one (nodes, vocabulary) a row. `roots` are the pending tokens."""

    def keep(self, accepted: Sequence[Sequence[int]]) -> None:
        """Keep the accepted nodes of each row, node 0 among them, and drop the others."""

    def select(self, rows: Sequence[int]) -> None:
        """Keep some rows."""


def accepts(model: Any, name: str) -> bool:
    """Whether the model's forward names an argument."""
    return name in inspect.signature(model.forward).parameters


def attention_kind(model: Any) -> str:
    """The attention implementation of the part that writes."""
    return model.config.get_text_config(decoder=True)._attn_implementation


def can_take_trees(model: Any, sequence: Prefilled) -> bool:
    """Whether this model, attention and cache can verify a tree in one forward."""
    return (
        not model.config.is_encoder_decoder
        and attention_kind(model) in TREE_ATTENTION
        and accepts(model, "position_ids")
        and sequence.model_kwargs.get("position_ids") is not None
        and not getattr(sequence.cache, "_is_user_defined", False)
        and takes_trees(sequence.cache)
    )


def padded(
    roots: Sequence[int], trees: Sequence[Tree], width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Trees of several rows as tensors: tokens, depths (rows, width), sight (rows, width, width).

    Padding nodes see themselves alone: a row that sees nothing would be NaN.
    """
    tokens = np.zeros((len(trees), width), dtype=np.int64)
    depths = np.zeros((len(trees), width), dtype=np.int64)
    sight = np.tile(np.eye(width, dtype=bool), (len(trees), 1, 1))
    for row, (root, tree) in enumerate(zip(roots, trees, strict=True)):
        size = len(tree)
        tokens[row, :size], tokens[row, 0] = tree.tokens, root
        depths[row, :size] = tree.depths
        sight[row, :size, :size] = tree.sight
    return torch.from_numpy(tokens), torch.from_numpy(depths), torch.from_numpy(sight)


class TreeSteps:
    """Trees of several sequences at once.

    A node attends to its sequence so far, its ancestors and itself, and stands at the position it
    would have in the output: the last prompt position + what was decoded + its depth, the same on
    every axis of a multi-axis rotary embedding. The positions are our own copy, so that another
    prefill on the same module cannot move them.

    Args:
        model: Any decoder-only model whose `can_take_trees`.
        sequences: Prefilled prompts, one a row.
    """

    trees = True

    def __init__(self, model: Any, sequences: Sequence[Prefilled]) -> None:
        self.model = model
        self.cache = SlotCache([sequence.cache for sequence in sequences])
        positions = [sequence.model_kwargs["position_ids"] for sequence in sequences]
        # `begin` has already counted on to the first decoded token.
        self._next = torch.cat([each[..., -1:] for each in positions], dim=-2)
        self._device = self._next.device
        masks = [sequence.model_kwargs.get("attention_mask") for sequence in sequences]
        hidden = [None if mask is None else mask[0, :-1] == 0 for mask in masks]
        self._hidden = [one if one is not None and one.any() else None for one in hidden]
        first = sequences[0]
        self._inputs = self._fixed_inputs(first)
        self._types = [name for name in self._inputs if name.endswith("token_type_ids")]
        self.dtype = first.cache.layers[0].keys.dtype

    def _fixed_inputs(self, sequence: Prefilled) -> dict[str, Any]:
        """What the model's own preparation adds to every step's forward."""
        kwargs = dict(sequence.model_kwargs)
        ids = torch.cat([sequence.input_ids, sequence.input_ids[:, -1:]], dim=-1)
        inputs = self.model.prepare_inputs_for_generation(ids, next_sequence_length=1, **kwargs)
        ours = {"input_ids", "position_ids", "attention_mask", "past_key_values", "logits_to_keep"}
        return {name: value for name, value in inputs.items() if name not in ours}

    def verify(self, roots: Sequence[int], trees: Sequence[Tree]) -> list[Tensor]:
        """One forward over all rows' trees."""
        width = max(map(len, trees))
        slots = self.cache.slots
        slots.open(width)
        if len(trees) == width == 1 and self._hidden[0] is None:  # plain decoding needs no mask
            logits = self._forward(torch.tensor([roots], device=self._device), self._next, None)
            slots.moves = None
            return [logits[0]]
        ids, depths, sight = padded(roots, trees, width)
        lengths = torch.tensor(slots.lengths, device=self._device)
        logits = self._forward(
            ids.to(self._device),
            self._next + depths.to(self._device),
            self._mask(lengths, sight.to(self._device), slots.reach),
        )
        slots.moves = None
        return [logits[row, : len(tree)] for row, tree in enumerate(trees)]

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Logits (rows, nodes, vocabulary)."""
        inputs = dict(self._inputs)
        for name in self._types:  # decoded tokens are text
            inputs[name] = torch.zeros_like(ids)
        outputs = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self.cache,
            **(inputs | {"use_cache": True, "return_dict": True}),
        )
        return outputs.logits

    def _mask(self, lengths: Tensor, sight: Tensor, reach: int) -> Tensor:
        """Additive mask (rows, 1, nodes, slots), made where the model is.

        Args:
            lengths: Tokens of each row (rows,).
            sight: Which nodes of a tree a node sees (rows, nodes, nodes).
            reach: Slots the forward looks at.
        """
        width = sight.shape[-1]
        slot = torch.arange(reach, device=sight.device)
        node = slot - lengths[:, None]  # (rows, slots): before the tree it is negative
        inside = node.clamp(0, width - 1)[:, None].expand(-1, width, -1)
        seen = sight.gather(2, inside) & (node < width)[:, None] | (node < 0)[:, None]
        for row, hidden in enumerate(self._hidden):
            if hidden is not None:
                seen[row, :, : len(hidden)] &= ~hidden
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=sight.device)
        return mask.masked_fill_(~seen, torch.finfo(self.dtype).min)[:, None]

    def keep(self, accepted: Sequence[Sequence[int]]) -> None:
        """Move the accepted nodes into place; what lies behind them is written over."""
        self.cache.keep(accepted)
        steps = torch.tensor([len(nodes) for nodes in accepted], device=self._device)
        self._next = self._next + steps[:, None]

    def select(self, rows: Sequence[int]) -> None:
        """Keep some rows."""
        self.cache.select(rows)
        self._next = self._next[..., list(rows), :]
        self._hidden = [self._hidden[row] for row in rows]


class ChainSteps:
    """One sequence, verified in chains by the model's own preparation; rejected tokens are cropped.

    Serves encoder-decoders, sliding windows, recurrent states, flash attention and caches that the
    caller owns: whatever can be cropped.

    Args:
        model: Any model that `generate` knows.
        sequence: A prefilled prompt.
    """

    trees = False

    def __init__(self, model: Any, sequence: Prefilled) -> None:
        self.model = model
        self._ids = sequence.input_ids
        self._kwargs = sequence.model_kwargs  # reaches to the pending token
        self._outputs: Any = None
        self.cache = sequence.cache

    def verify(self, roots: Sequence[int], trees: Sequence[Tree]) -> list[Tensor]:
        """One forward over the pending token and the chain."""
        (tree,) = trees
        self._chain = torch.as_tensor(tree.tokens[None], device=self._ids.device).clone()
        self._chain[0, 0] = roots[0]
        ids = torch.cat([self._ids, self._chain], dim=-1)
        kwargs = self._counted(copy.copy(self._kwargs), len(tree) - 1)
        inputs = self.model.prepare_inputs_for_generation(
            ids, next_sequence_length=len(tree), **kwargs
        )
        if "logits_to_keep" in inputs:
            inputs["logits_to_keep"] = len(tree)
        self._outputs = self.model(**inputs, return_dict=True)
        return [self._outputs.logits[0, -len(tree) :]]

    def keep(self, accepted: Sequence[Sequence[int]]) -> None:
        """Crop what was rejected, by negative numbers: positive ones have meant both things."""
        (nodes,) = accepted
        self.cache.crop(-(self._chain.shape[1] - len(nodes)))
        self._ids = torch.cat([self._ids, self._chain[:, : len(nodes)]], dim=-1)
        self._kwargs = self._counted(self._kwargs, len(nodes))

    def _counted(self, kwargs: dict[str, Any], tokens: int) -> dict[str, Any]:
        if tokens == 0:
            return kwargs
        return self.model._update_model_kwargs_for_generation(
            {},
            kwargs,
            is_encoder_decoder=self.model.config.is_encoder_decoder,
            num_new_tokens=tokens,
        )

    def select(self, rows: Sequence[int]) -> None:
        """There is one row."""
