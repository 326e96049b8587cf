"""Greedy coordinate gradient (Zou et al., 2023): odd tokens that make an opening likely.

Needs the weights. On small models a few steps show whether a refusal hangs by a thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from primum.alignment.redteam.family import Attack, Behaviour, dice, user
from primum.alignment.redteam.searches import Rounds
from primum.alignment.redteam.speakers import LocalSpeaker

PLACE = "\uf8ff"  # where the suffix goes in the rendered prompt; a character of no language


@dataclass(frozen=True)
class Suffix:
    """The best suffix and the loss (nats a token of the opening) after each step, first to last."""

    text: str
    losses: list[float] = field(default_factory=list)


def optimise_suffix(
    model: Any,
    tokenizer: Any,
    request: str,
    *,
    opening: str = "Sure, here is",
    length: int = 20,
    steps: int = 100,
    candidates: int = 64,
    top: int = 128,
    seed: int = 0,
) -> Suffix:
    """Search the suffix to `request` after which the model most likely begins with `opening`.

    Every step takes the gradient with respect to the suffix's one-hot tokens, draws `candidates`
    single swaps among the `top` most promising ones, and keeps the best if it is better. Swaps
    that would be tokenised otherwise when read as text are not tried.
    """
    from primum.language.chat import render_prompt

    before, after = (
        torch.tensor(tokenizer(part, add_special_tokens=False)["input_ids"], device=model.device)
        for part in render_prompt(
            tokenizer, [{"role": "user", "content": f"{request} {PLACE}"}]
        ).split(PLACE)
    )
    wanted = torch.tensor(
        tokenizer(opening, add_special_tokens=False)["input_ids"], device=model.device
    )
    first = tokenizer(" !" * length, add_special_tokens=False)["input_ids"][:length]
    suffix = torch.tensor(first, device=model.device)
    draw = torch.Generator().manual_seed(dice(seed, request).randrange(2**31))
    table = model.get_input_embeddings().weight
    special = torch.tensor(sorted(tokenizer.all_special_ids), device=model.device)
    model.eval()

    def losses(rows: Tensor) -> Tensor:
        """Of suffixes (rows, length)."""
        count = len(rows)
        ids = torch.cat(
            [before.expand(count, -1), rows, after.expand(count, -1), wanted.expand(count, -1)], 1
        )
        with torch.no_grad():
            logits = model(input_ids=ids, logits_to_keep=len(wanted) + 1).logits[:, :-1].float()
        return -logits.log_softmax(-1).gather(2, wanted.expand(count, -1)[..., None]).mean((1, 2))

    def gradient() -> Tensor:
        """Of the loss with respect to one-hot tokens, (length, vocabulary)."""
        hot = torch.nn.functional.one_hot(suffix, len(table)).to(table.dtype).requires_grad_()
        embedded = torch.cat([table[before], hot @ table, table[after], table[wanted]])[None]
        logits = model(inputs_embeds=embedded, logits_to_keep=len(wanted) + 1).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted)
        return torch.autograd.grad(loss, hot)[0]

    best = float(losses(suffix[None])[0])
    seen = [best]
    for _ in range(steps):
        with torch.enable_grad():
            slope = gradient()
        slope[:, special] = torch.inf
        promising = (-slope).topk(top, dim=1).indices  # (length, top)
        places = torch.randint(len(suffix), (candidates,), generator=draw)
        picks = torch.randint(top, (candidates,), generator=draw)
        rows = suffix.repeat(candidates, 1)
        rows[torch.arange(candidates), places] = promising[places, picks].to(rows)
        texts = tokenizer.batch_decode(rows)
        again = tokenizer(texts, add_special_tokens=False)["input_ids"]
        stable = [row for row, ids in zip(rows, again, strict=True) if row.tolist() == list(ids)]
        if stable:
            found = losses(torch.stack(stable))
            if float(found.min()) < best:
                best, suffix = float(found.min()), stable[int(found.argmin())]
        seen.append(best)
    return Suffix(tokenizer.decode(suffix), seen)


@dataclass(frozen=True)
class Gcg:
    """The search as an attack on a target whose weights are at hand: one suffix, one question."""

    target: LocalSpeaker
    length: int = 20
    steps: int = 100
    candidates: int = 64
    name: str = "gcg"
    version: str = "1"

    def rounds(self, behaviour: Behaviour, seed: int) -> Rounds:
        found = optimise_suffix(
            self.target.model,
            self.target.tokenizer,
            behaviour.request,
            length=self.length,
            steps=self.steps,
            candidates=self.candidates,
            seed=seed,
        )
        yield [Attack(self.name, str(seed), user(f"{behaviour.request} {found.text}"))]
