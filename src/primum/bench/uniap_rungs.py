"""What UniAP's speed is held against: four ways to group the same features, each written with care.

`dense` is how the authors' release goes about it, `scipy` the formulas as they read on a label map;
both give UniAP's labels. `greedy` merges one pair at a time (UnSAM, HASSOD), `maskcut` solves the
normalised cut three times (TokenCut, CutLER): other methods for the same end.
"""

import heapq
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional

from primum_kernels.agglomeration import grid_edges

WEIGHTS, SIGMA = (0.6, 0.4), 0.07


def _components(nodes: int, first: Tensor, second: Tensor) -> Tensor:
    ones = np.ones(len(first), np.int8)
    graph = coo_matrix((ones, (first.cpu().numpy(), second.cpu().numpy())), (nodes, nodes))
    labels = connected_components(graph, directed=False)[1]
    return torch.from_numpy(labels.astype(np.int64)).to(first.device)


def scipy_pooling(features: Tensor, preset: dict[str, Any]) -> Tensor:
    """SciPy components and `index_add_`: labels (levels, tokens) of one image (1, h, w, c)."""
    _, height, width, channels = features.shape
    token = functional.normalize(features[0].float().flatten(0, 1), dim=1)
    device, paper = token.device, preset["similarity"] == "paper"
    label = torch.arange(len(token), device=device)
    edges = grid_edges(height, width, device)
    count, feature, mean = len(token), token, token
    relation = token @ token.T if paper else token
    levels = []
    for threshold in preset["thresholds"]:
        while True:
            first, second = edges
            similar = (feature[first] * feature[second]).sum(1)
            if paper and len(first):
                chunks = zip(first.split(256), second.split(256), strict=True)
                gap = [(relation[one] - relation[other]).abs().mean(1) for one, other in chunks]
                similar = WEIGHTS[0] * similar + WEIGHTS[1] * (1 - torch.cat(gap))
            passing = similar > threshold if preset["strict"] else similar >= threshold
            if not paper and not passing.any():
                break
            group = _components(count, first[passing], second[passing])
            label, edges = group[label], group[edges]
            count = int(group.max()) + 1
            edges = edges[:, edges[0] != edges[1]].sort(0).values
            code = torch.unique(edges[0] * count + edges[1])
            edges = torch.stack([code // count, code % count])
            total = torch.zeros(count, channels, device=device).index_add_(0, label, token)
            if paper:
                if threshold == preset["thresholds"][-1]:
                    break  # nobody asks for the last features
                area = torch.bincount(label, minlength=count)
                mean = total / area[:, None]
                relation = mean @ token.T
                feature = functional.normalize((relation / SIGMA).softmax(1) @ token, dim=1)
                break
            feature = functional.normalize(total, dim=1)
        levels.append(label)
    return torch.stack(levels)


def dense_pooling(features: Tensor, preset: dict[str, Any]) -> Tensor:
    """Dense masks and adjacency, contracted by matrix products; components by SciPy."""
    _, height, width, _ = features.shape
    token = functional.normalize(features[0].float().flatten(0, 1), dim=1)
    tokens, paper = len(token), preset["similarity"] == "paper"
    affinity = token @ token.T
    masks = torch.eye(tokens, device=token.device)
    adjacency = torch.zeros_like(masks)
    adjacency[*grid_edges(height, width, token.device)] = 1
    feature, levels = token, []
    for threshold in preset["thresholds"]:
        while True:
            similar = feature @ feature.T
            if paper:
                relation = masks @ affinity / masks.sum(1, keepdim=True)
                first, second = adjacency.nonzero().T
                gap = torch.zeros_like(similar)
                for one, other in zip(first.split(256), second.split(256), strict=True):
                    gap[one, other] = (relation[one] - relation[other]).abs().mean(1)
                similar = WEIGHTS[0] * similar + WEIGHTS[1] * (1 - gap)
            over = similar > threshold if preset["strict"] else similar >= threshold
            first, second = (over & (adjacency > 0)).nonzero().T
            if not paper and not len(first):
                break
            group = functional.one_hot(_components(len(masks), first, second)).float()
            masks = group.T @ masks
            adjacency = ((group.T @ adjacency @ group) > 0).float()
            adjacency = ((adjacency + adjacency.T) > 0).float().triu(1)
            if paper:
                if threshold == preset["thresholds"][-1]:
                    break
                relation = masks @ affinity / masks.sum(1, keepdim=True)
                feature = functional.normalize((relation / SIGMA).softmax(1) @ token, dim=1)
                break
            feature = functional.normalize(masks @ token, dim=1)
        levels.append(masks.argmax(0))
    return torch.stack(levels)


def greedy_merging(features: Tensor, preset: dict[str, Any]) -> Tensor:
    """Always merge the most alike neighbours, with a heap: labels (levels, tokens)."""
    _, height, width, _ = features.shape
    token = functional.normalize(features[0].float().flatten(0, 1), dim=1).cpu()
    total = token.numpy().copy()
    unit = total.copy()
    edges = grid_edges(height, width)
    alike = (token[edges[0]] * token[edges[1]]).sum(1)
    near: list[set[int]] = [set() for _ in range(len(total))]
    for one, other in edges.T.tolist():
        near[one].add(other)
        near[other].add(one)
    version = [0] * len(total)
    owner = np.arange(len(total))
    heap = [
        (-value, one, other, 0, 0)
        for value, (one, other) in zip(alike.tolist(), edges.T.tolist(), strict=True)
    ]
    heapq.heapify(heap)
    levels = []
    for threshold in preset["thresholds"]:
        while heap and -heap[0][0] > threshold:
            _, one, other, old, older = heapq.heappop(heap)
            if version[one] != old or version[other] != older:
                continue
            owner[owner == other] = one
            total[one] += total[other]
            unit[one] = total[one] / np.linalg.norm(total[one])
            version[one], version[other] = old + 1, -1
            near[one] = {far for far in near[one] | near[other] if far not in (one, other)}
            for far in near[one]:
                near[far].discard(other)
                near[far].add(one)
                pair = (one, far, version[one], version[far])
                heapq.heappush(heap, (-float(unit[one] @ unit[far]), *pair))
        levels.append(torch.from_numpy(np.unique(owner, return_inverse=True)[1]))
    return torch.stack(levels)


def maskcut(features: Tensor, preset: dict[str, Any], masks: int = 3) -> Tensor:
    """Normalised cuts of the thresholded affinity by SciPy's generalised eigen-solver."""
    token = functional.normalize(features[0].float().flatten(0, 1), dim=1).cpu()
    free = torch.ones(len(token), 1)
    found = []
    for _ in range(masks):
        shown = token * free
        affinity = torch.where(shown @ shown.T > 0.15, 1.0, 1e-5).double().numpy()
        degree = np.diag(affinity.sum(0))
        vector = eigh(degree - affinity, degree, subset_by_index=[1, 1])[1][:, 0]
        side = vector > vector.mean()
        if side[np.abs(vector).argmax()] != 1:
            side = ~side
        found.append(torch.from_numpy(side) & (free[:, 0] > 0))
        free = free * ~found[-1][:, None]
    return torch.stack(found).long()


RUNGS = {
    "dense": dense_pooling,
    "scipy": scipy_pooling,
    "greedy": greedy_merging,
    "maskcut": maskcut,
}
SAME_LABELS = ("dense", "scipy")
SLOW = ("dense", "greedy", "maskcut")
