"""Data that is read and encoded once, then batched the same way again after a resume."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from primum.errors import UserError
from primum.language.batches import pad_id
from primum.language.chat import TooLong
from primum.language.formats import Conversation
from primum.language.packing import pack
from primum.language.source import Source
from primum.training.loading import ResumableLoader

Reader = Callable[[], list[Conversation]]
Example = TypeVar("Example")


@dataclass(frozen=True)
class Served(Generic[Example]):
    """What the loader draws at once: one example, or a row's worth of them.

    Args:
        examples: In the order they lie in.
        rows: Ids of the data's rows that they were made from, for the lineage of a model.
    """

    examples: tuple[Example, ...]
    rows: tuple[str, ...]


class EncodedData(LightningDataModule, ABC, Generic[Example]):
    """Reads conversations, encodes each once, and serves them in batches.

    Args:
        model: Gives the tokenizer and chat template.
        train: Reads the training conversations.
        validation: Reads the held-out ones, whose loss is logged; none if absent.
        batch_size: Conversations in one micro-batch; with `packing`, rows.
        max_length: Longest conversation in tokens; longer ones are left out and counted.
        seed: The order of epoch e is a function of (seed, e) alone.
        packing: Tokens of a row that is filled with several conversations; None gives each its own.
        group_by_length: Batch conversations of like length, so that little is padding.
        num_workers: Processes that collate; 0 is fastest for short texts.
    """

    def __init__(
        self,
        model: Source,
        train: Reader,
        validation: Reader | None = None,
        batch_size: int = 8,
        max_length: int = 2048,
        seed: int = 0,
        packing: int | None = None,
        group_by_length: bool = True,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.source = model
        self.readers = {"train": train} | ({"validation": validation} if validation else {})
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.max_length, self.packing, self.group_by_length = max_length, packing, group_by_length
        self.examples: dict[str, list[Example]] = {}
        self.read: dict[str, list[Conversation]] = {}
        self.left_out: dict[str, int] = {}

    @abstractmethod
    def encode(self, tokenizer: Any, conversation: Conversation) -> Example:
        """One row as token ids; raises `TooLong` for one that does not fit."""

    @abstractmethod
    def size(self, example: Example) -> int:
        """Tokens of an example, as it lies in a batch."""

    def length(self, example: Example) -> int:
        """Tokens of the longest text in an example, which is all a model must have room for."""
        return self.size(example)

    @property
    def longest(self) -> int:
        """Tokens of the longest text there is."""
        return max(self.length(one) for examples in self.examples.values() for one in examples)

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> dict[str, Any]:
        """A batch."""

    @abstractmethod
    def weigh(self, batch: dict[str, Any]) -> float:
        """What a batch adds to the divisor of its optimizer step."""

    def setup(self, stage: str) -> None:
        """Read and encode each split once."""
        if self.examples:
            return
        tokenizer = self.source.tokenizer()
        self.pad_id = pad_id(tokenizer)
        for split, reader in self.readers.items():
            kept, conversations = [], reader()
            for conversation in conversations:
                try:
                    kept.append(self.encode(tokenizer, conversation))
                except TooLong:
                    continue
                except UserError as error:
                    raise UserError(
                        error.problem,
                        file=error.file or conversation.file,
                        row=error.row or conversation.row,
                        remedy=error.remedy,
                    ) from error
            self.left_out[split] = len(conversations) - len(kept)
            if not kept:
                raise UserError(
                    f"The {split} split has no conversation to learn from"
                    f" ({len(conversations)} read, {self.left_out[split]} longer than"
                    f" max_length={self.max_length})",
                    remedy="check the data file, or raise data.max_length",
                )
            self.read[split], self.examples[split] = conversations, kept

    def made_from(self, example: Example) -> tuple[str, ...]:
        """Ids of the rows an example holds words of."""
        return (example.id,)  # type: ignore[attr-defined]

    def served(self, split: str) -> list[Served[Example]]:
        """Each example alone, or as many together as fit into `packing` tokens."""
        examples = self.examples[split]
        together = [[one] for one in range(len(examples))]
        if self.packing is not None:
            together = pack([self.size(one) for one in examples], self.packing)
        return [
            Served(
                tuple(examples[one] for one in row),
                tuple(id for one in row for id in self.made_from(examples[one])),
            )
            for row in together
        ]

    def served_size(self, served: Served[Example]) -> int:
        """Tokens of all that is drawn at once."""
        return sum(map(self.size, served.examples))

    def groups(self, served: Sequence[Served[Example]]) -> list[int] | None:
        """Which of what is drawn should share an optimizer step; None: nothing in particular."""
        return None

    def train_dataloader(self) -> ResumableLoader:
        return self.loader(ResumableLoader)

    def loader(self, kind: type[ResumableLoader]) -> ResumableLoader:
        """The loader of the training split."""
        served = self.served("train")
        assert self.trainer is not None
        return kind(
            served,  # type: ignore[arg-type]
            self.trainer,
            batch_size=self.batch_size,
            seed=self.seed,
            lengths=list(map(self.served_size, served)) if self.group_by_length else None,
            groups=self.groups(served),
            weigh=self.weigh,
            collate_fn=self.collate_served,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> list[DataLoader]:
        if "validation" not in self.examples:
            return []
        by_length = sorted(self.served("validation"), key=self.served_size)
        return [
            DataLoader(by_length, batch_size=self.batch_size, collate_fn=self.collate_served)  # type: ignore[arg-type]
        ]

    def collate_served(self, drawn: Sequence[Served[Example]]) -> dict[str, Any]:
        """The batch of all examples that were drawn."""
        return self.collate([example for one in drawn for example in one.examples])

    def fingerprints(self) -> list[dict[str, Any]]:
        """Name, rows and SHA-256 of what each split held, for the manifest."""
        return [
            {
                "name": ", ".join(sorted({str(one.file) for one in conversations})),
                "split": split,
                "rows": len(conversations),
                "left_out": self.left_out[split],
                "sha256": fingerprint(conversations),
            }
            for split, conversations in self.read.items()
        ]


def fingerprint(conversations: Sequence[Conversation]) -> str:
    """SHA-256 over ids and messages, in order; independent of the file format they came in."""
    digest = hashlib.sha256()
    for one in conversations:
        row: list[Any] = [one.id, list(one.messages)]
        if one.rejected is not None:
            row.append(list(one.rejected))
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()
