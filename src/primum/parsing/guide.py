"""Shows a young decoder where to look: some heads learn to attend to the character that comes next.

Finding the place on the page is what keeps a decoder on the plateau of a language model. Where the
place of every character is known, attention itself can be taught (guided attention, Tachibana et
al., 2018, there for speech); heads that are not guided stay free.

One head of the first layer learns reading order among the visual tokens: each attends to the one
that is read before it, across the ends of lines. Later heads then find the next character as the
token that follows the present one, without having to know how wide the page is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from primum.language.batches import IGNORED


class Lead(NamedTuple):
    """A guided head: `back` 0 looks at the next character's place, 1 at the one just written."""

    layer: int
    head: int
    back: int


LEADS = (Lead(1, 0, 1), Lead(1, 1, 0), Lead(2, 0, 0))
ORDER = (0, 0)  # layer and head that learn reading order


class Guide:
    """Listens to queries and keys of a Qwen3 decoder while it trains.

    Args:
        decoder: A `Qwen3Model`; hooks stay on it.
        leads: Which heads are guided.
    """

    def __init__(self, decoder: Any, leads: tuple[Lead, ...] = LEADS) -> None:
        deepest = len(decoder.layers) - 1
        own = {(min(lead.layer, deepest), lead.head): lead.back for lead in leads}
        self.leads = [Lead(layer, head, back) for (layer, head), back in own.items()]
        self.heard: dict[Any, Any] = {}
        decoder.rotary_emb.register_forward_hook(self.listener("turns"))
        for layer in sorted({ORDER[0], *(lead.layer for lead in self.leads)}):
            attention = decoder.layers[layer].self_attn
            attention.q_norm.register_forward_hook(self.listener("query", layer))
            attention.k_norm.register_forward_hook(self.listener("key", layer))

    def listener(self, *name: Any) -> Any:
        """A hook that remembers a module's output while it trains."""

        def hear(module: Any, _: Any, output: Any) -> None:
            if module.training:
                self.heard[name] = output

        return hear

    def loss(self, looks: Tensor, follows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """How badly the guided heads look, of the forward pass just made.

        Args:
            looks: (pages, tokens): for each token the position of the visual token it is read
                from, or `IGNORED`.
            follows: (pages, tokens of the prompt): for each visual token the position of the one
                read before it, or `IGNORED`.

        Returns:
            Sum of -log attention, of the leads their mean; and the shares of tokens for which the
            last lead (`found`) and the head of reading order (`followed`) attend most to the right
            place.
        """
        total = looks.new_zeros(()).float()
        start = follows.shape[1] - 1  # the query that writes the first character
        shares = {}
        for layer, head, back in self.leads:
            wanted = looks[:, start + 1 - back : looks.shape[1] - back]
            # the last token writes nothing
            missed, shares["found"] = self.missed(layer, head, slice(start, -1), wanted)
            total = total + missed / len(self.leads)
        missed, shares["followed"] = self.missed(*ORDER, slice(0, start + 1), follows)
        self.heard.clear()
        return total + missed, shares

    def missed(self, layer: int, head: int, at: slice, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of -log attention of one head's queries `at` on `wanted`, and the share right."""
        from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

        cosine, sine = self.heard[("turns",)]
        query = self.heard["query", layer][:, :, head : head + 1].transpose(1, 2)
        key = self.heard["key", layer][:, :, head : head + 1].transpose(1, 2)
        query, key = apply_rotary_pos_emb(query, key, cosine, sine)
        places = torch.arange(key.shape[-2], device=key.device)
        logits = (query[:, 0, at] @ key[:, 0].transpose(1, 2)).float() * key.shape[-1] ** -0.5
        logits = logits.masked_fill(places[None] > places[at, None], -torch.inf)
        known = wanted != IGNORED
        loss = functional.cross_entropy(logits[known], wanted[known], reduction="sum")
        right = (logits.detach().argmax(-1) == wanted)[known]
        return loss, right.float().sum() / known.sum().clamp_min(1)
