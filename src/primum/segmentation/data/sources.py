"""Where images lie: a folder, or the layout of a public data set. Never its annotations."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from primum.errors import UserError
from primum.segmentation.data.images import ENDINGS, read_image


class Choice(Protocol):
    """A rule that chooses among names: `Subset` or `Listed`."""

    def of(self, names: Sequence[str]) -> list[int]: ...


class Source(Protocol):
    """Images by number. What a ground truth says of them is no part of it."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...

    def read(self, index: int) -> Tensor: ...


class Files:
    """Image files below one folder.

    Args:
        root: The folder.
        names: Paths relative to it.
        subset: Keeps some of them.
    """

    def __init__(self, root: str | Path, names: Sequence[str], subset: Choice | None = None):
        self.root = Path(root)
        self.names = list(names)
        if subset is not None:
            self.names = [self.names[index] for index in subset.of(self.names)]

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def read(self, index: int) -> Tensor:
        return read_image(self.root / self.names[index])


def folder(root: str | Path, pattern: str = "**/*", subset: Choice | None = None) -> Files:
    """Every image below `root` whose path matches `pattern`, in the order of their names.

    Raises:
        UserError: There is no such folder, or no image in it.
    """
    return matching(root, pattern, subset, f"images ({', '.join(ENDINGS)}) below that folder")


def imagenet(root: str | Path, split: str = "train", subset: Choice | None = None) -> Files:
    """ImageNet-1k (non-commercial research terms): `ROOT/train/n01440764/*.JPEG`, `ROOT/val/...`.

    Class folders are directories to walk, not labels.
    """
    return matching(root, f"{split}/**/*", subset, f"ROOT/{split}/n01440764/*.JPEG")


def coco(root: str | Path, split: str = "train2017", subset: Choice | None = None) -> Files:
    """COCO (images under Flickr terms): `ROOT/train2017/*.jpg`; `unlabeled2017` works as well.

    COCOStuff-27 is judged on the same images: its lists are `Listed` files of image ids.
    """
    return matching(root, f"{split}/*", subset, f"ROOT/{split}/*.jpg")


def cityscapes(root: str | Path, split: str = "train", subset: Choice | None = None) -> Files:
    """Cityscapes (registration needed): `ROOT/leftImg8bit/train/aachen/*_leftImg8bit.png`."""
    expected = f"ROOT/leftImg8bit/{split}/*/*_leftImg8bit.png"
    return matching(root, f"leftImg8bit/{split}/*/*_leftImg8bit.png", subset, expected)


def bsds500(root: str | Path, split: str = "train", subset: Choice | None = None) -> Files:
    """BSDS500 (research terms): `ROOT/images/{train,val,test}/*.jpg`."""
    return matching(root, f"images/{split}/*", subset, f"ROOT/images/{split}/*.jpg")


def uvo(
    root: str | Path, listing: str = "FrameSet/UVO_frame_val.json", subset: Choice | None = None
) -> Files:
    """UVO (CC BY 4.0, frames of Kinetics videos): the frames that `ROOT/LISTING` names.

    Of the listing only file names are read.

    Raises:
        UserError: It cannot be read, or names a frame that has not been extracted.
    """
    file = Path(root) / listing
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["images"]
        names = sorted(str(row["file_name"]) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"This is no list of UVO frames ({error})",
            file=file,
            remedy="name a COCO-style JSON with listing=, relative to root",
        ) from None
    frames = next((at for at in (file.parent, Path(root)) if (at / names[0]).is_file()), None)
    if frames is None:
        raise UserError(
            f"The frame `{names[0]}` is not there",
            file=file,
            remedy="extract the frames beside the listing with UVO's own script first",
        )
    return Files(frames, names, subset)


def matching(root: str | Path, pattern: str, subset: Choice | None, expected: str) -> Files:
    """Images whose path below `root` matches, or one error that says what was expected."""
    base = Path(root)
    found = sorted(
        path.relative_to(base).as_posix()
        for path in base.glob(pattern)
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    )
    if not found:
        problem = "There are no images here" if base.is_dir() else "There is no such folder"
        raise UserError(problem, file=root, remedy=f"expected: {expected}")
    return Files(base, found, subset)


def fingerprint(source: Source) -> str:
    """SHA-256 over the names, in order: which images, not their bytes."""
    digest = hashlib.sha256()
    for index in range(len(source)):
        digest.update(source.name(index).encode() + b"\n")
    return digest.hexdigest()
