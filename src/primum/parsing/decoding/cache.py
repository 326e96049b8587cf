"""Keys and values in slots: trees are written behind each row, accepted rows moved into place.

Transformers' `DynamicCache` copies everything at every step; here a step writes its own tokens and
moves the accepted ones. Rows of a batch have lengths of their own, so acceptance may be ragged
without padding, holes or compaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer


def takes_trees(cache: Any) -> bool:
    """Whether every layer keeps plain keys and values of every token."""
    return type(cache) is DynamicCache and all(
        type(layer) is DynamicLayer and layer.is_initialized for layer in cache.layers
    )


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values (rows, heads, capacity, size).

    Args:
        layers: This layer of each row's own cache, batch size 1.
        slots: Where the next forward writes; shared by all layers.
    """

    is_sliding = False
    is_croppable = False
    keys: Any
    values: Any

    def __init__(self, layers: Sequence[Any], slots: Slots) -> None:
        super().__init__()
        self.slots = slots
        self.keys = _side_by_side([layer.keys for layer in layers], slots.capacity)
        self.values = _side_by_side([layer.values for layer in layers], slots.capacity)
        self.dtype, self.device = self.keys.dtype, self.keys.device
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Made from prefilled layers: always initialised."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new tokens (rows, heads, new, size) to their slots."""
        slots = self.slots
        self.reserve(slots.capacity)
        self.move()
        for buffer, new in ((self.keys, key_states), (self.values, value_states)):
            if slots.begin is not None:
                buffer[:, :, slots.begin : slots.reach] = new
            else:
                buffer[slots.rows, :, slots.where] = new.transpose(1, 2)
        return self.keys[:, :, : slots.reach], self.values[:, :, : slots.reach]

    def reserve(self, capacity: int) -> None:
        """Make room for that many tokens a row."""
        if self.keys.shape[2] < capacity:
            self.keys = _side_by_side([self.keys], capacity)
            self.values = _side_by_side([self.values], capacity)

    def move(self) -> None:
        """Bring what was accepted by the last forward into place."""
        if self.slots.moves is not None:
            rows, old, new = self.slots.moves
            for buffer in (self.keys, self.values):
                buffer[rows, :, new] = buffer[rows, :, old]

    def load(self, layers: Sequence[Any]) -> None:
        """Start anew with other rows, in the same memory."""
        for row, layer in enumerate(layers):
            length = layer.keys.shape[2]
            self.keys[row, :, :length] = layer.keys[0]
            self.values[row, :, :length] = layer.values[0]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of a mask."""
        return self.slots.reach, 0

    def get_seq_length(self) -> int:
        """Tokens of the longest row."""
        return max(self.slots.lengths)

    def get_max_length(self) -> int:
        """Grows as needed."""
        return -1

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        self.keys, self.values = self.keys[indices], self.values[indices]


class Slots:
    """Where rows end and where the next forward writes.

    Args:
        lengths: Tokens of each row.
        device: Where the keys and values live.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths = list(lengths)
        self.device = device
        self.capacity = max(lengths)
        self.reach = max(lengths)
        self.rows = torch.arange(len(lengths), device=device)[:, None]
        self.where = self.rows
        self.begin: int | None = None  # of a single row: a slice takes less time than `where`
        self.moves: Tensor | None = None  # (3, moves): rows, old and new slots

    def open(self, new: int) -> None:
        """Make room for `new` tokens behind every row."""
        self.reach = max(self.lengths) + new
        if self.reach > self.capacity:
            self.capacity = self.reach + max(256, self.reach // 4)
        if len(self.lengths) == 1:
            self.begin = self.lengths[0]
            return
        ends = torch.tensor(self.lengths, device=self.device)
        self.where = ends[:, None] + torch.arange(new, device=self.device)


class SlotCache(Cache):
    """A batch's cache, made from one prefilled cache a row.

    Args:
        caches: Each of batch size 1 and `takes_trees`.
    """

    layers: list[Any]

    def __init__(self, caches: Sequence[DynamicCache]) -> None:
        first: Any = caches[0].layers[0]
        self.slots = Slots([cache.get_seq_length() for cache in caches], first.keys.device)
        layers = zip(*(cache.layers for cache in caches), strict=True)
        super().__init__(layers=[SlotLayer(layer, self.slots) for layer in layers])

    def keep(self, accepted: Sequence[Sequence[int]]) -> None:
        """Keep each row's accepted nodes of the last forward: ascending, node 0 among them.

        They are moved by the next forward, layer by layer, so that a captured graph does it too.
        """
        rows, old, new = [], [], []
        for row, nodes in enumerate(accepted):
            begin = self.slots.lengths[row]
            for place, node in enumerate(nodes):
                if node != place:
                    rows.append(row)
                    old.append(begin + node)
                    new.append(begin + place)
            self.slots.lengths[row] = begin + len(nodes)
        self.slots.moves = (
            torch.tensor([rows, old, new], device=self.slots.device) if rows else None
        )

    def settle(self) -> None:
        """Bring what was accepted into place now, rather than with the next forward."""
        for layer in self.layers:
            layer.move()
        self.slots.moves = None

    def select(self, rows: Sequence[int]) -> None:
        """Keep some rows."""
        self.settle()
        slots = self.slots
        indices = torch.tensor(rows, device=slots.device)
        for layer in self.layers:
            layer.batch_select_indices(indices)
        slots.lengths = [slots.lengths[row] for row in rows]
        slots.rows = torch.arange(len(rows), device=slots.device)[:, None]

    def plain(self) -> DynamicCache:
        """A one-row cache as transformers makes them."""
        self.settle()
        length = self.slots.lengths[0]
        cache = DynamicCache()
        for number, layer in enumerate(self.layers):
            cache.update(layer.keys[:, :, :length], layer.values[:, :, :length], number)
        return cache


def _side_by_side(parts: Sequence[Tensor], capacity: int) -> Tensor:
    """Tensors (rows, heads, length, size) in one with room for more."""
    first = parts[0]
    rows = sum(part.shape[0] for part in parts)
    result = first.new_zeros(rows, first.shape[1], capacity, first.shape[3])
    row = 0
    for part in parts:
        result[row : row + part.shape[0], :, : part.shape[2]] = part
        row += part.shape[0]
    return result
