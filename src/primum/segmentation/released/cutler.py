"""CutLER's detector (Wang et al., 2023): Cascade Mask R-CNN with a ResNet-50-FPN, by its key map.

Cascade R-CNN after Cai and Vasconcelos (2018), with detectron2's conventions; inference only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pad, relu

from primum.segmentation.pictures import read_picture
from primum.segmentation.released.boxes import anchors, clip, decode, paste, pool
from primum.segmentation.released.coverage import Coverage, coverage, require_whole
from primum.segmentation.released.resnet import TORCHVISION_RESNET

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIZES = (32, 64, 128, 256, 512)  # of anchors, a level each
STRIDES = (4, 8, 16, 32, 64)
WEIGHTS = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15))  # of box deltas, a stage each

#: detectron2's key (a pattern) -> ours; the first that matches holds
RULES: Sequence[tuple[str, str]] = (
    *((rf"backbone\.bottom_up\.{old}", "body." + new) for old, new in TORCHVISION_RESNET),
    (r"backbone\.fpn_(lateral|output)(\d)\.norm\.", r"\1.\2.norm."),
    (r"backbone\.fpn_(lateral|output)(\d)\.", r"\1.\2.conv."),
    (r"proposal_generator\.rpn_head\.", "rpn."),
    (r"roi_heads\.box_head\.(\d)\.", r"box_heads.\1."),
    (r"roi_heads\.box_predictor\.(\d)\.", r"box_heads.\1."),
    (r"roi_heads\.mask_head\.", "mask_head."),
)
TRAINING = re.compile(r"^(?:pixel_mean|pixel_std|proposal_generator\.anchor_generator\..*)$")


def rename(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A detectron2 Cascade R-CNN state under our keys, and the keys left out."""
    made: dict[str, Tensor] = {}
    dropped: list[str] = []
    for given, tensor in state.items():
        if TRAINING.search(given):
            dropped.append(given)
            continue
        key = given
        for old, new in RULES:
            if re.match(old, given):
                key = re.sub("^" + old, new, given)
                break
        made[key] = tensor
    return made, dropped


class Normed(nn.Module):
    """A convolution without bias, and its batch norm."""

    def __init__(self, given: int, made: int, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, size, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(made)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, channels, rows, columns) to the same with other channels."""
        return self.norm(self.conv(features))


class RegionProposals(nn.Module):
    """Where objects may be, from every position of every level."""

    def __init__(self, channels: int, shapes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, shapes, 1)
        self.anchor_deltas = nn.Conv2d(channels, shapes * 4, 1)

    def forward(self, features: Sequence[Tensor], size: tuple[int, int], most: int) -> Tensor:
        """(at most `most`, 4) boxes of one picture, best first."""
        from torchvision.ops import batched_nms

        boxes, scores, level = [], [], []
        for number, feature in enumerate(features):
            hidden = relu(self.conv(feature))
            logits = self.objectness_logits(hidden)[0].permute(1, 2, 0).flatten()
            deltas = self.anchor_deltas(hidden)[0].unflatten(0, (-1, 4))
            deltas = deltas.permute(2, 3, 0, 1).reshape(-1, 4)
            rows, columns = feature.shape[2:]
            grid = anchors(rows, columns, STRIDES[number], SIZES[number], like=feature)
            best = logits.topk(min(most, len(logits)))
            boxes.append(clip(decode(deltas[best.indices], grid[best.indices]), *size))
            scores.append(best.values)
            level.append(torch.full_like(best.indices, number))
        found, score, where = torch.cat(boxes), torch.cat(scores), torch.cat(level)
        whole = (found[:, 2:] > found[:, :2]).all(1)
        found, score, where = found[whole], score[whole], where[whole]
        return found[batched_nms(found, score, where, 0.7)[:most]]


class BoxHead(nn.Module):
    """One stage of the cascade: is it an object, and where exactly?"""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels * 49, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.cls_score = nn.Linear(hidden, 2)
        self.bbox_pred = nn.Linear(hidden, 4)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(n, channels, 7, 7) to (n, 2) logits of object and background, and (n, 4) deltas."""
        hidden = relu(self.fc2(relu(self.fc1(pooled.flatten(1)))))
        return self.cls_score(hidden), self.bbox_pred(hidden)


class MaskHead(nn.Module):
    """A small mask of each box."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for number in range(1, 5):
            setattr(self, f"mask_fcn{number}", nn.Conv2d(channels, channels, 3, padding=1))
        self.deconv = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.predictor = nn.Conv2d(channels, 1, 1)

    def forward(self, pooled: Tensor) -> Tensor:
        """(n, channels, 14, 14) to (n, 28, 28) logits."""
        for number in range(1, 5):
            pooled = relu(getattr(self, f"mask_fcn{number}")(pooled))
        return self.predictor(relu(self.deconv(pooled)))[:, 0]


class CutLer(nn.Module):
    """CutLER's Cascade Mask R-CNN, of torchvision's ResNet and our own heads.

    Args:
        short_side, long_side: Pixels of the picture when shown to the network.
        most: Masks an image.
        least_score: Boxes below are dropped.
        channels, hidden: Sizes, changed in tests alone.
    """

    layout = "CutLER (Cascade Mask R-CNN, ResNet-50-FPN)"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        short_side: int = 800,
        long_side: int = 1333,
        most: int = 100,
        least_score: float = 0.05,
        channels: int = 256,
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.short_side, self.long_side = short_side, long_side
        self.most, self.least_score = most, least_score
        self.body = resnet50(weights=None)
        del self.body.fc
        widths = {2: 256, 3: 512, 4: 1024, 5: 2048}
        self.lateral = nn.ModuleDict({str(n): Normed(w, channels, 1) for n, w in widths.items()})
        self.output = nn.ModuleDict({str(n): Normed(channels, channels, 3) for n in widths})
        self.rpn = RegionProposals(channels)
        self.box_heads = nn.ModuleList(BoxHead(channels, hidden) for _ in WEIGHTS)
        self.mask_head = MaskHead(channels)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), False)
        self.eval()

    def load_released(self, state: Mapping[str, Tensor], file: Any = None) -> Coverage:
        """Take the weights of a released detectron2 state.

        Raises:
            UserError: Keys are left over or missing; it lists them.
        """
        made, dropped = rename(state)
        found = coverage(made, self.state_dict(), dropped)
        require_whole(found, self.layout, file)
        self.load_state_dict(made, strict=False)
        return found

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Levels 2 to 6 of normalised images, (batch, channels, rows, columns) each."""
        body = self.body
        features = body.maxpool(relu(body.bn1(body.conv1(images))))
        stages = []
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            features = stage(features)
            stages.append(features)
        above = self.lateral["5"](stages[3])
        made = [self.output["5"](above)]
        for number in (4, 3, 2):
            above = interpolate(above, scale_factor=2.0, mode="nearest")
            above = above + self.lateral[str(number)](stages[number - 2])
            made.insert(0, self.output[str(number)](above))
        return [*made, max_pool2d(made[-1], 1, 2)]

    def detect(self, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Boxes (n, 4) and scores (n,) of one picture, best first.

        Every stage refines the boxes of the one before; scores are the mean over stages.
        """
        from torchvision.ops import nms

        boxes = self.rpn(features, size, 1000)
        chances = []
        for head, weights in zip(self.box_heads, WEIGHTS, strict=True):
            logits, deltas = head(pool(features[:4], boxes, 7))
            chances.append(logits.softmax(1)[:, 0])
            boxes = clip(decode(deltas, boxes, weights), *size)
        score = torch.stack(chances).mean(0)
        sure = score > self.least_score
        boxes, score = boxes[sure], score[sure]
        kept = nms(boxes, score, 0.5)[: self.most]
        return boxes[kept], score[kept]

    @torch.inference_mode()
    def segment(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Masks of a (height, width, 3) uint8 picture, best first."""
        height, width = image.shape[:2]
        scale = self.short_side / min(height, width)
        scale = min(scale, self.long_side / max(height, width))
        size = (round(height * scale), round(width * scale))
        shown = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(self.mean).float()
        shown = interpolate(shown, size, mode="bilinear", antialias=True, align_corners=False)
        shown = (shown - self.mean) / self.std
        beyond = [-side % 32 for side in size]
        features = self.pyramid(pad(shown, (0, beyond[1], 0, beyond[0])))
        boxes, scores = self.detect(features, size)
        if not len(boxes):
            return []
        small = self.mask_head(pool(features[:4], boxes, 14)).sigmoid()
        boxes = clip(
            boxes * boxes.new_tensor([width / size[1], height / size[0]] * 2), height, width
        )
        found = []
        for own, part, score in zip(
            boxes.split(20), small.split(20), scores.split(20), strict=True
        ):
            masks = paste(part, own, height, width) >= 0.5
            for mask, box, one in zip(masks, own.tolist(), score.tolist(), strict=True):
                found.append({
                    "segmentation": mask.cpu().numpy(), "score": one,
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                })  # fmt: skip
        return found

    def answer(self, cases: Sequence[Any], settings: object) -> list[list[dict[str, Any]]]:
        """Sit a benchmark of pictures."""
        return [self.segment(read_picture(case.files["image"])) for case in cases]
