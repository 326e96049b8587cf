"""UniAP within what surrounds it: a ViT's forward pass, a training step, a folder of pictures.

`primum bench uniap --within vit|step|pictures`. The ViT's weights do not change its time, so random
ones serve where none are at hand; what UniAP finds does change its time, so it is fed the committed
features (`vit`), or says that its weights are random (`step`, `pictures`).
"""

import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from primum.bench.uniap import PHOTO_SETTINGS, median, replayed, timed
from primum.bench.uniap_fixtures import load, sized
from primum.errors import UserError
from primum.extras import require
from primum_kernels.agglomeration import PRESETS, agglomerate

IMAGENET = 1_281_167  # training pictures of ImageNet-1k


def vit(arguments: Any) -> list[dict[str, Any]]:
    """A ViT's forward pass, UniAP, and both in a row, in turn: seconds of each."""
    device = torch.device(arguments.device)
    network = backbone(arguments)
    rows = []
    for name in arguments.features:
        features = sized(load(name), arguments.grid, arguments.channels).to(device, network.dtype)
        features = features.expand(arguments.batch_size, -1, -1, -1).contiguous()
        side = arguments.grid * network.patch
        shown = torch.rand(arguments.batch_size, 3, side, side, device=device, dtype=network.dtype)

        def both(features: Tensor = features, shown: Tensor = shown) -> None:
            network(shown)
            agglomerate(features, **PHOTO_SETTINGS)

        sides: dict[str, Callable[[], object]] = {
            "vit": functools.partial(network, shown),
            "uniap": functools.partial(agglomerate, features, **PHOTO_SETTINGS),
            "both": both,
        }
        with torch.inference_mode():
            if arguments.device == "cuda":
                sides = {side: replayed(call) for side, call in sides.items()}
            seconds = {side: [timed(call, arguments.device)][:0] for side, call in sides.items()}
            for turn in range(arguments.turns):
                order = [*sides][turn % 3 :] + [*sides][: turn % 3]
                for side in order:
                    seconds[side].append(timed(sides[side], arguments.device))
        times = {side: median(values, arguments.batch_size) for side, values in seconds.items()}
        rows.append({"features": name, "shape": list(features.shape), "times": times})
    return rows


def step(arguments: Any) -> list[dict[str, Any]]:
    """Training steps of S2-UniSeg, and the part of each that UniAP takes."""
    from lightning.pytorch import Callback, Trainer, seed_everything

    from primum.segmentation.data.datamodule import ImageData
    from primum.segmentation.data.scenes import Scenes
    from primum.segmentation.data.views import Views
    from primum.segmentation.networks.uniseg import UniSeg
    from primum.segmentation.pseudo_masks import UniapProposals
    from primum.segmentation.s2uniseg import S2UniSegModule

    seed_everything(0, verbose=False)
    inside: list[float] = []
    whole: list[float] = []

    class Timed(UniapProposals):
        def __call__(self, tokens: Tensor) -> Any:
            made: list[Any] = []
            call = functools.partial(super().__call__, tokens)
            inside.append(timed(lambda: made.append(call()), tokens.device.type))
            return made[0]

    class Clock(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            drained(trainer.strategy.root_device.type)
            self.start = time.perf_counter()

        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            drained(trainer.strategy.root_device.type)
            whole.append(time.perf_counter() - self.start)

    half = 2 if arguments.patch == 8 else 1  # the paper shows the ViT a picture of half the size
    side = arguments.grid * arguments.patch * half
    network = UniSeg({"name": arguments.backbone, "img_size": side // half}, reduction=half)
    module = S2UniSegModule(
        network, Timed("paper"), functools.partial(torch.optim.AdamW, lr=1e-4), side=side
    )
    local = max(32, side // 2 // 32 * 32)
    data = ImageData(
        functools.partial(Scenes, 4 * arguments.batch_size, 0, side),
        Views(side, local, 2, (0.05, 0.4)),
        batch_size=arguments.batch_size,
    )
    trainer = Trainer(
        accelerator="gpu" if arguments.device == "cuda" else "cpu", devices=1,
        precision="bf16-mixed" if arguments.device == "cuda" else "32-true",
        max_steps=arguments.turns + 3, max_epochs=-1, logger=False, callbacks=[Clock()],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    pictures = arguments.batch_size
    return [
        {
            "shape": [pictures, arguments.grid, arguments.grid],
            "note": "random weights, synthetic scenes: few regions, so UniAP's share is indicative",
            "times": {
                "step": median(whole[3:], pictures),
                "uniap": median(inside[3:], pictures),
                "rest": median((np.array(whole[3:]) - inside[3:]).tolist(), pictures),
            },
        }
    ]


def pictures(arguments: Any) -> list[dict[str, Any]]:
    """Files to masks: read, ViT, UniAP, enlarge, run-length code, write; one after another."""
    from primum.segmentation.peers.peer import enlarged
    from primum.segmentation.pictures import read_picture

    coco = require("pycocotools.mask", "segmentation")
    network = backbone(arguments)
    files = photographs(arguments.images)
    spent: dict[str, list[float]] = {}
    masks = 0

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        drained(arguments.device)
        start = time.perf_counter()
        yield
        drained(arguments.device)
        spent.setdefault(name, []).append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for number, file in enumerate([files[0], *files]):  # the first once more, to warm up
            if number == 1:
                spent.clear()
                masks = 0
            with stage("read"):
                picture = read_picture(file)
            with stage("vit"):
                shown = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None]
                shown = shown.to(arguments.device).to(network.dtype) / 255
                features = network(shown)
            with stage("uniap"):
                found = agglomerate(features, **PRESETS["recommended"])
                table = found.regions.of_image(0)
                labels = found.labels[:, 0].cpu().numpy()
                level, label = table.level.tolist(), table.label.tolist()
                score = table.score.tolist()
            coded: list[dict[str, Any]] = []
            with stage("enlarge"):
                large = enlarged(labels, *picture.shape[:2]).astype(np.int32)
            with stage("code"):
                for one in zip(level, label, score, strict=True):
                    mask = np.asfortranarray(large[one[0]] == one[1], np.uint8)
                    code = coco.encode(mask)
                    code["counts"] = code["counts"].decode()
                    coded.append({"segmentation": code, "level": one[0], "score": one[2]})
            with stage("write"):
                (Path(folder) / f"{number}.json").write_text(json.dumps(coded))
            masks += len(coded)
    per_picture = [sum(times) for times in zip(*spent.values(), strict=True)]
    total = sum(per_picture)
    return [
        {
            "pictures": len(files), "masks a picture": masks / len(files),
            "times": {"picture": median(per_picture)}
            | {name: median(values) for name, values in spent.items()},
            "share": {name: sum(values) / total for name, values in spent.items()},
            "pictures a second": len(files) / total,
            "hours for ImageNet-1k": IMAGENET * total / len(files) / 3600,
        }
    ]  # fmt: skip


def backbone(arguments: Any) -> Any:
    """The network, on its device and in its type, that takes pictures of `grid` tokens a side."""
    from primum.segmentation.backbones import Backbone

    patch = arguments.patch
    made: Any = Backbone(
        arguments.backbone, arguments.weights or "random", size=arguments.grid * patch
    )
    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    made = made.to(arguments.device, dtype)
    made.dtype = dtype
    if made.patch != patch:
        raise UserError(f"{arguments.backbone} has patches of {made.patch} px, not {patch}")
    return made


def photographs(folder: str | None) -> list[Path]:
    """Pictures of a folder, or the photographs that come with scikit-image."""
    if folder:
        kinds = (".jpg", ".jpeg", ".png")
        found = sorted(f for f in Path(folder).rglob("*") if f.suffix.lower() in kinds)
        if not found:
            raise UserError("No pictures lie here", file=Path(folder))
        return found
    data = Path(str(require("skimage.data", "segmentation").__file__)).parent
    return [data / f"{name}.png" for name in ("astronaut", "coffee", "chelsea")]


def drained(device: str) -> None:
    """Wait until the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


MEASUREMENTS = {"vit": vit, "step": step, "pictures": pictures}


def show(rows: list[dict[str, Any]]) -> None:
    """Print measurements."""
    for row in rows:
        words = [f"{key} {value}" for key, value in row.items() if key not in ("times", "share")]
        print("\n" + "; ".join(words))
        for side, time_ in row["times"].items():
            line = f"  {side:8} {time_['ms']:9.3f} ms a picture"
            line += f" [{time_['low']:.3f}, {time_['high']:.3f}] n = {time_['n']}"
            if side in row.get("share", {}):
                line += f"   {100 * row['share'][side]:.1f} %"
            print(line, flush=True)
