"""Shows a young decoder where to look: some heads learn to attend to the character that comes next.

Finding the place on the page is what keeps a decoder on the plateau of a language model. Where the
place of every character is known, attention itself can be taught (guided attention, Tachibana et
al., 2018, there for speech); heads that are not guided stay free.
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
        for layer in sorted({lead.layer for lead in self.leads}):
            attention = decoder.layers[layer].self_attn
            attention.q_norm.register_forward_hook(self.listener("query", layer))
            attention.k_norm.register_forward_hook(self.listener("key", layer))

    def listener(self, *name: Any) -> Any:
        """A hook that remembers a module's output while it trains."""

        def hear(module: Any, _: Any, output: Any) -> None:
            if module.training:
                self.heard[name] = output

        return hear

    def loss(self, looks: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """How badly the guided heads look, of the forward pass just made.

        Args:
            looks: (pages, tokens): for each token the position of the visual token it is read
                from, or `IGNORED`.
            start: Position of the first query, the one that writes the first character.

        Returns:
            Mean over heads of the sum of -log attention, and the share of tokens for which the
            last guided head attends most to the right place.
        """
        from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

        cosine, sine = self.heard[("turns",)]
        total, right = looks.new_zeros(()).float(), looks.new_zeros(()).float()
        for layer, head, back in self.leads:
            query = self.heard["query", layer][:, :, head : head + 1].transpose(1, 2)
            key = self.heard["key", layer][:, :, head : head + 1].transpose(1, 2)
            query, key = apply_rotary_pos_emb(query, key, cosine, sine)
            length = key.shape[-2]
            query = query[:, 0, start:-1]  # the last token writes nothing
            logits = (query @ key[:, 0].transpose(1, 2)).float() * key.shape[-1] ** -0.5
            at = torch.arange(length, device=logits.device)
            logits = logits.masked_fill(at[None] > at[start:-1, None], -torch.inf)
            wanted = looks[:, start + 1 - back : length - back]
            known = wanted != IGNORED
            total = total + functional.cross_entropy(logits[known], wanted[known], reduction="sum")
            right = (logits.detach().argmax(-1) == wanted)[known].float().mean()
        self.heard.clear()
        return total / len(self.leads), right
