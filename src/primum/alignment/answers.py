"""Rows with two answers to one prompt: preference pairs, and KTO's answers beside a stranger's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from primum.alignment.encoded import EncodedData, Reader
from primum.alignment.weighting import row_number
from primum.errors import UserError
from primum.language.batches import collate
from primum.language.chat import Encoded, Thinking, encode
from primum.language.formats import Conversation
from primum.language.packing import Tree, flatten, grow, trimmed
from primum.language.source import Source

LABELS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class TwoAnswers:
    """A prompt with two answers, and what is known of them.

    Args:
        first, second: The prompt with each answer: chosen and rejected, or own and a stranger's.
        facts: Numbers that come along in the batch, by name.
        number: Its place among the examples of its split.
        stranger: The row the second answer comes from, if it is another.
    """

    first: Encoded
    second: Encoded
    facts: dict[str, float]
    id: str
    number: int = -1
    stranger: str | None = None

    @property
    def trees(self) -> tuple[Tree, ...]:
        """Both answers, on one prompt where they share it."""
        return grow([self.first, self.second])


class TwoAnswerData(EncodedData[TwoAnswers]):
    """Batches of answers in twos: sequence 2i is the first of row i, 2i + 1 the second.

    Args:
        thinking: `keep` the model's thinking in the answers, or `drop` it.
        share_prompts: Compute a prompt once for both its answers, without padding. The result is
            the same; models whose attention is not PyTorch's need False.
        others: As in `EncodedData`.
    """

    def __init__(
        self,
        model: Source,
        train: Reader,
        validation: Reader | None = None,
        batch_size: int = 8,
        thinking: Thinking = "keep",
        max_length: int = 2048,
        seed: int = 0,
        share_prompts: bool = True,
        group_by_length: bool = True,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            model, train, validation, batch_size, max_length, seed, None, group_by_length,
            num_workers,
        )  # fmt: skip
        self.thinking, self.share_prompts = thinking, share_prompts

    def answer(self, tokenizer: Any, messages: Sequence[Any]) -> Encoded:
        """A prompt and its last answer as token ids, without what follows."""
        encoded = encode(
            tokenizer,
            messages,
            supervise="last",
            thinking=self.thinking,
            max_length=self.max_length,
        )
        return trimmed(encoded)

    def size(self, example: TwoAnswers) -> int:
        if self.share_prompts:
            return sum(sum(tree.sizes) for tree in example.trees)
        return 2 * max(len(example.first.input_ids), len(example.second.input_ids))

    def made_from(self, example: TwoAnswers) -> tuple[str, ...]:
        return (example.id,) if example.stranger is None else (example.id, example.stranger)

    def length(self, example: TwoAnswers) -> int:
        return max(len(example.first.input_ids), len(example.second.input_ids))

    def setup(self, stage: str) -> None:
        fresh = not self.examples
        super().setup(stage)
        if fresh:
            self.examples = {
                split: [replace(one, number=number) for number, one in enumerate(examples)]
                for split, examples in self.examples.items()
            }

    def collate(self, examples: Sequence[TwoAnswers]) -> dict[str, Any]:
        """Token ids in twos; of each row (rows,) its facts, and `numbers`, its place."""
        if self.share_prompts:
            batch: dict[str, Any] = flatten([tree for one in examples for tree in one.trees])
        else:
            sides = [side for one in examples for side in (one.first, one.second)]
            batch = dict(collate(sides, self.pad_id))
        for name in examples[0].facts:
            batch[name] = torch.tensor([one.facts[name] for one in examples])
        batch["numbers"] = torch.tensor([one.number for one in examples])
        return batch | {"ids": [one.id for one in examples]}

    def weigh(self, batch: dict[str, Any]) -> float:
        """Rows, each by its weight."""
        return float(batch["weight"].sum())


class PreferenceData(TwoAnswerData):
    """Preference pairs: `chosen` and `rejected` answers to a prompt.

    Reads the columns `weight` (1 where absent), `margin` (how much better the chosen answer is: the
    rise in mean rubric score), and for cost models `chosen_unsafe` and `rejected_unsafe`.

    Args:
        others: As in `TwoAnswerData`.
    """

    def encode(self, tokenizer: Any, conversation: Conversation) -> TwoAnswers:
        """One pair.

        Raises:
            UserError: It has no rejected answer, or both are the same.
        """
        if conversation.rejected is None:
            raise UserError(
                "This row has no rejected answer",
                remedy="give preference rows (prompt, chosen, rejected), or use module=sft",
            )
        turns = len(conversation.messages)
        while turns and conversation.messages[turns - 1]["role"] == "assistant":
            turns -= 1
        chosen = self.answer(tokenizer, conversation.messages)
        rejected = self.answer(tokenizer, [*conversation.messages[:turns], *conversation.rejected])
        if chosen == rejected:
            raise UserError("The chosen answer and the rejected one are the same")
        facts = {
            "weight": row_number(conversation, "weight", 1.0),
            "margin": row_number(conversation, "margin", float("nan")),
            "chosen_unsafe": float(flag(conversation, "chosen_unsafe", False)),
            "rejected_unsafe": float(flag(conversation, "rejected_unsafe", True)),
        }
        return TwoAnswers(chosen, rejected, facts, conversation.id)


class LabelledData(TwoAnswerData):
    """Answers that were found good or bad (column `label`), each beside a stranger's answer.

    The second answer of a row is that of the next row, put to this row's prompt: KTO measures by it
    how far the policy has drifted. Which row that is follows from the data alone, not from batches.

    Args:
        others: As in `TwoAnswerData`.
    """

    def encode(self, tokenizer: Any, conversation: Conversation) -> TwoAnswers:
        own = self.answer(tokenizer, conversation.messages)
        label = flag(conversation, "label", None)
        facts = {"weight": row_number(conversation, "weight", 1.0), "label": float(label)}
        return TwoAnswers(own, own, facts, conversation.id)

    def setup(self, stage: str) -> None:
        """Read, and put each row beside the next.

        Raises:
            UserError: A split has a single row.
        """
        fresh = not self.examples
        super().setup(stage)
        if not fresh:
            return
        for split, examples in self.examples.items():
            if len(examples) < 2:
                raise UserError(
                    f"KTO compares rows, and the {split} split has {len(examples)} of them"
                )
            mates = [*examples[1:], examples[0]]
            self.examples[split] = [
                replace(
                    one,
                    second=moved(one.first, mate.first, self.max_length),
                    stranger=mate.id,
                )
                for one, mate in zip(examples, mates, strict=True)
            ]


def moved(own: Encoded, mate: Encoded, longest: int) -> Encoded:
    """The mate's answer after one's own prompt, cut where it would be too long."""
    prompt, other = own.loss_mask.index(True), mate.loss_mask.index(True)
    ids = own.input_ids[:prompt] + mate.input_ids[other:]
    mask = own.loss_mask[:prompt] + mate.loss_mask[other:]
    return Encoded(ids[: max(longest, prompt + 1)], mask[: max(longest, prompt + 1)])


def flag(conversation: Conversation, column: str, default: bool | None) -> bool:
    """A row's column that is true or false.

    Raises:
        UserError: It is something else, or absent where there is no default.
    """
    value = conversation.extra.get(column)
    if value is None and default is not None:
        return default
    given = LABELS.get(str(value).strip().lower().removesuffix(".0"))
    if given is None:
        raise UserError(
            f"`{column}` is true or false, and this row has {value!r}",
            file=conversation.file,
            row=conversation.row,
        )
    return given
