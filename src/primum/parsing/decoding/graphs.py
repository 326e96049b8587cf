"""Fixed shapes for CUDA graphs: a few widths, one capacity, the same memory page after page.

A forward of a small model on a large GPU takes less time than launching its kernels one by one. A
captured graph launches them all at once, and asks for the same shapes and addresses every time:
trees are padded to the next width, and all keys and values up to the capacity are looked at under
the mask. The accepted tokens of the last step are moved inside the graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary, proxy

import torch
from torch import Tensor

from primum.parsing.decoding.prefill import Prefilled
from primum.parsing.decoding.steps import TreeSteps, padded
from primum.parsing.speculation.tree import Tree, bare

WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # captured when first needed
ROUND = 1024  # capacities are multiples of it, so that pages of like length share graphs

_made: WeakKeyDictionary[Any, dict[tuple[int, int], FixedSteps]] = WeakKeyDictionary()


def can_be_fixed(sequences: Sequence[Prefilled], device: str = "cuda") -> bool:
    """Whether fixed shapes are of use here: on a GPU, for prompts without padding."""
    return all(
        sequence.input_ids.device.type == device
        and sequence.model_kwargs.get("attention_mask") is None
        for sequence in sequences
    )


def fixed_steps(model: Any, sequences: Sequence[Prefilled], capture: bool) -> FixedSteps:
    """Steps for some rows, with the memory and the graphs of an earlier page where they fit."""
    longest = max(int(sequence.config.max_length) for sequence in sequences)
    capacity = -(-(longest + WIDTHS[-1]) // ROUND) * ROUND
    kept = _made.setdefault(model, {})
    steps = kept.get((len(sequences), capacity))
    if steps is None:
        kept.clear()  # one set of buffers at a time: they are as large as the cache
        steps = FixedSteps(model, sequences, capacity, capture)
        if steps.portable:
            kept[len(sequences), capacity] = steps
    else:
        steps.load(sequences)
    return steps


class FixedSteps(TreeSteps):
    """Trees at fixed widths.

    Args:
        model: Any decoder-only model whose `can_take_trees`.
        sequences: Prefilled prompts, one a row; none of them padded.
        capacity: Slots of every row.
        capture: Whether to capture CUDA graphs. Without, the shapes are the same and every kernel
            is launched on its own.
    """

    def __init__(
        self, model: Any, sequences: Sequence[Prefilled], capacity: int, capture: bool
    ) -> None:
        super().__init__(proxy(model), sequences)  # `_made` must not keep the model alive
        self.capacity, self.capture = capacity, capture
        slots = self.cache.slots
        slots.capacity = slots.reach = capacity
        rows = len(sequences)
        self._going = list(range(rows))
        self._lengths = torch.tensor(slots.lengths, device=self._device)
        self._moves = torch.zeros(3, rows * WIDTHS[-1], dtype=torch.long, device=self._device)
        self._buffers: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}
        self._graphs: dict[int, tuple[Any, Tensor]] = {}
        for layer in self.cache.layers:
            layer.reserve(capacity)

    @property
    def portable(self) -> bool:
        """Whether no input but the tokens differs from page to page."""
        others = (value for name, value in self._inputs.items() if name not in self._types)
        return not any(isinstance(value, Tensor) for value in others)

    def load(self, sequences: Sequence[Prefilled]) -> None:
        """Begin other pages in the same memory."""
        slots = self.cache.slots
        for number, layer in enumerate(self.cache.layers):
            layer.load([sequence.cache.layers[number] for sequence in sequences])
        slots.lengths = [sequence.cache.get_seq_length() for sequence in sequences]
        slots.moves = None
        positions = [sequence.model_kwargs["position_ids"] for sequence in sequences]
        self._next = torch.cat([each[..., -1:] for each in positions], dim=-2)
        self._going = list(range(len(sequences)))

    def verify(self, roots: Sequence[int], trees: Sequence[Tree]) -> list[Tensor]:
        """One forward at the next width; rows that have finished are run along."""
        widest = max(map(len, trees))
        width = next(width for width in WIDTHS if width >= widest)
        slots = self.cache.slots
        whole: list[Tree] = [bare()] * len(slots.lengths)
        tokens = [0] * len(slots.lengths)
        for row, root, tree in zip(self._going, roots, trees, strict=True):
            whole[row], tokens[row] = tree, root
        ids, depths, sight = padded(tokens, whole, width)
        made = self._buffer(width, sight.shape[0])
        for buffer, value in zip(made[:1] + made[2:], (ids, sight, torch.tensor(slots.lengths)),
                                 strict=True):  # fmt: skip
            buffer.copy_(value, non_blocking=True)
        made[1].copy_(self._next + depths.to(self._device))
        self._set_moves(slots.moves)
        logits = self._run(width)
        slots.moves = None
        return [logits[row, : len(tree)] for row, tree in zip(self._going, trees, strict=True)]

    def _buffer(self, width: int, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if width not in self._buffers:
            long: dict[str, Any] = {"dtype": torch.long, "device": self._device}
            self._buffers[width] = (
                torch.zeros(rows, width, **long),
                torch.zeros(*self._next.shape[:-1], width, **long),
                torch.zeros(rows, width, width, dtype=torch.bool, device=self._device),
                self._lengths,
            )
        return self._buffers[width]

    def _set_moves(self, moves: Tensor | None) -> None:
        """Pad the moves with ones that change nothing: slot 0 of row 0 onto itself."""
        self._moves.zero_()
        if moves is not None:
            self._moves[:, : moves.shape[1]] = moves

    def _compute(self, width: int) -> Tensor:
        ids, positions, sight, lengths = self._buffers[width]
        slots = self.cache.slots
        slots.reach = self.capacity
        slots.where = lengths[:, None] + torch.arange(width, device=self._device)
        slots.moves = self._moves
        return self._forward(ids, positions, self._mask(lengths, sight, self.capacity))

    def _run(self, width: int) -> Tensor:
        if not self.capture:
            return self._compute(width)
        if width not in self._graphs:
            self._capture(width)
        if not self.capture:  # capturing failed
            return self._compute(width)
        graph, logits = self._graphs[width]
        graph.replay()
        return logits

    def _capture(self, width: int) -> None:
        """Warm up on a side stream, then capture; where that fails, go on without graphs.

        Running a step twice writes the same tokens to the same slots, and its moves only read
        slots that no move writes, so warming up changes nothing.
        """
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    self._compute(width)
                    self._moves.zero_()  # they are done; once more would copy what came after
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                logits = self._compute(width)
            self._graphs[width] = (graph, logits)
        except RuntimeError as error:
            self.capture = False
            warnings.warn(f"Decoding goes on without CUDA graphs: {error}", stacklevel=2)

    def select(self, rows: Sequence[int]) -> None:
        """Note which rows go on; the shapes stay."""
        self._going = [self._going[row] for row in rows]

    def keep(self, accepted: Sequence[Sequence[int]]) -> None:
        """Keep the accepted nodes of the rows that go on; finished rows stand still."""
        whole: list[Sequence[int]] = [[] for _ in self.cache.slots.lengths]
        for row, nodes in zip(self._going, accepted, strict=True):
            whole[row] = nodes
        super().keep(whole)
