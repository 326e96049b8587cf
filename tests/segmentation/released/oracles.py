"""The arithmetic of detectron2's and Deformable DETR's blocks once more, in float64 NumPy loops.

Written from their definitions and apart from the code under test: a wrong half pixel here and there
leaves keys and shapes intact, and only values tell.
"""

import math

import numpy as np


def bilinear(image: np.ndarray, y: float, x: float, border: str) -> np.ndarray:
    """(channels,) value at a point in pixel-index coordinates of (channels, rows, columns).

    `zero` fades to zero outside (grid_sample); `clamp` is RoIAlign's: beyond one pixel outside
    nothing, nearer the edge value.
    """
    _, rows, columns = image.shape
    if border == "clamp":
        if y < -1 or y > rows or x < -1 or x > columns:
            return np.zeros(len(image))
        y, x = max(y, 0.0), max(x, 0.0)
        y, x = min(y, rows - 1.0), min(x, columns - 1.0)
    total = np.zeros(len(image))
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < rows and 0 <= column < columns:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


def roi_align(image: np.ndarray, box: np.ndarray, size: int, scale: float) -> np.ndarray:
    """(channels, size, size): mean of ceil(box / size) squared samples a bin, `aligned`."""
    x0, y0, x1, y1 = box * scale - 0.5
    height, width = (y1 - y0) / size, (x1 - x0) / size
    across, down = max(1, math.ceil(width)), max(1, math.ceil(height))
    made = np.zeros((len(image), size, size))
    for i in range(size):
        for j in range(size):
            for a in range(down):
                for b in range(across):
                    y = y0 + (i + (a + 0.5) / down) * height
                    x = x0 + (j + (b + 0.5) / across) * width
                    made[:, i, j] += bilinear(image, y, x, "clamp") / (down * across)
    return made


def anchors(height: int, width: int, stride: int, size: float, ratios) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Boxes centred at multiples of the stride, one a ratio (height / width) of equal area."""
    found = []
    for row in range(height):
        for column in range(width):
            for ratio in ratios:
                w = math.sqrt(size**2 / ratio)
                h = ratio * w
                cx, cy = column * stride, row * stride
                found.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    return np.array(found)


def decode(delta: np.ndarray, box: np.ndarray, weights) -> np.ndarray:  # type: ignore[no-untyped-def]
    """One box moved by one delta, growth bounded by 1000 / 16."""
    dx, dy, dw, dh = delta / np.array(weights, float)
    w, h = box[2] - box[0], box[3] - box[1]
    cx, cy = box[0] + w / 2 + dx * w, box[1] + h / 2 + dy * h
    w, h = w * math.exp(min(dw, math.log(62.5))), h * math.exp(min(dh, math.log(62.5)))
    return np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def paste(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """A square of probabilities laid into its box, sampled at pixel centres, zero outside."""
    m = len(mask)
    made = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y = (row + 0.5 - box[1]) / (box[3] - box[1]) * m - 0.5
            x = (column + 0.5 - box[0]) / (box[2] - box[0]) * m - 0.5
            made[row, column] = bilinear(mask[None], y, x, "zero")[0]
    return made


def sine_position(height: int, width: int, features: int) -> np.ndarray:
    """(2 * features, height, width): normalised to 2 pi, y first, sine and cosine interleaved."""
    made = np.zeros((2 * features, height, width))
    for row in range(height):
        for column in range(width):
            y = (row + 1) / (height + 1e-6) * 2 * math.pi
            x = (column + 1) / (width + 1e-6) * 2 * math.pi
            for k in range(features):
                turn = math.sin if k % 2 == 0 else math.cos
                wave = 10000 ** (2 * (k // 2) / features)
                made[k, row, column] = turn(y / wave)
                made[features + k, row, column] = turn(x / wave)
    return made


def deformable_attention(query, value, reference, shapes, heads, points, weights):  # type: ignore[no-untyped-def]
    """(queries, channels) of one picture (Zhu et al., 2021, eq. 3).

    Args:
        query: (queries, channels); value: (all positions, channels); reference: (queries, levels,
            2) as x, y within 0..1; shapes: (rows, columns) a level; weights: by the module's names.
    """
    levels, channels = len(shapes), query.shape[1]
    own = channels // heads

    def linear(given, name):  # type: ignore[no-untyped-def]
        return given @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    offsets = linear(query, "sampling_offsets").reshape(-1, heads, levels, points, 2)
    logits = linear(query, "attention_weights").reshape(-1, heads, levels * points)
    share = np.exp(logits - logits.max(-1, keepdims=True))
    share = (share / share.sum(-1, keepdims=True)).reshape(-1, heads, levels, points)
    flat, maps, start = linear(value, "value_proj"), [], 0
    for rows, columns in shapes:
        part = flat[start : start + rows * columns].reshape(rows, columns, heads, own)
        maps.append(part.transpose(2, 3, 0, 1))
        start += rows * columns
    made = np.zeros((len(query), heads, own))
    for q in range(len(query)):
        for head in range(heads):
            for level, (rows, columns) in enumerate(shapes):
                for point in range(points):
                    x = reference[q, level, 0] * columns + offsets[q, head, level, point, 0] - 0.5
                    y = reference[q, level, 1] * rows + offsets[q, head, level, point, 1] - 0.5
                    seen = bilinear(maps[level][head], y, x, "zero")
                    made[q, head] += share[q, head, level, point] * seen
    return linear(made.reshape(len(query), channels), "output_proj")


def suppressed(boxes: np.ndarray, scores: np.ndarray, most_overlap: float) -> list[int]:
    """Boxes that no better kept one overlaps by more than `most_overlap`, best first."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        x0, y0, x1, y1 = boxes[index]
        for other in kept:
            a0, b0, a1, b1 = boxes[other]
            shared = max(0.0, min(x1, a1) - max(x0, a0)) * max(0.0, min(y1, b1) - max(y0, b0))
            both = (x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - shared
            if shared > most_overlap * both:
                break
        else:
            kept.append(index)
    return kept


def cut(box: np.ndarray, height: float, width: float) -> np.ndarray:
    """A box within the picture."""
    limits = (width, height, width, height)
    return np.array([min(max(one, 0.0), limit) for one, limit in zip(box, limits, strict=True)])


def box_head(pooled: np.ndarray, weights, stage: int):  # type: ignore[no-untyped-def]
    """Probability of an object, and deltas, of one pooled region (channels, 7, 7)."""

    def linear(given, name):  # type: ignore[no-untyped-def]
        stem = f"box_heads.{stage}.{name}"
        return weights[f"{stem}.weight"] @ given + weights[f"{stem}.bias"]

    hidden = np.maximum(linear(np.maximum(linear(pooled.ravel(), "fc1"), 0), "fc2"), 0)
    logits = np.exp(linear(hidden, "cls_score"))
    return logits[0] / logits.sum(), linear(hidden, "bbox_pred")
