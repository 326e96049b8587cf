"""The Triton pipeline against the definition: labels, semantic labels and the whole table."""

import dataclasses
from typing import Any

import pytest
import torch
from tests.kernels.oracle import uniap
from tests.kernels.scenes import OPTIONS, SCENES, smooth
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from primum_kernels import (
    agglomeration_device,
    components,
    segments,
    semantic,
    similarity,
    vote,
)
from primum_kernels.agglomeration import PRESETS, STABLE, agglomerate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
QUICK = ["paper", "author_code", "balanced"]
# operations whose result's size or value the host must wait for
WORDS_TO_THE_HOST = (
    "_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal",
)  # fmt: skip


def compare(name: str, seeds: range, thresholds: tuple[float, ...], size: tuple[int, int]) -> None:
    """Images without a doubtful pair must agree in everything."""
    options = OPTIONS[name] | {"thresholds": thresholds, "min_area": 2, "max_instances": 6}
    images, scored, doubtful = [], 0, 0
    for seed in seeds:
        image = smooth(*size, 10, seed, detail=0.3)
        expected = uniap(image, **OPTIONS[name] | {"thresholds": thresholds})
        scored, doubtful = scored + expected.scored, doubtful + expected.doubtful
        if not expected.doubtful:
            images.append(torch.from_numpy(image))
    assert doubtful <= 1e-3 * scored
    features = torch.stack(images).to(DEVICE)
    rounds = {"max_rounds": 24} if options.get("rounds") == STABLE else {}
    found = agglomerate(features, **options | rounds, backend="triton")
    expected_result = agglomerate(features, **options, backend="reference")
    assert found.overflow.rounds.tolist() == [0] * len(images)
    assert torch.equal(found.labels, expected_result.labels)
    assert torch.equal(found.counts, expected_result.counts)
    if found.semantic is not None:
        assert torch.equal(found.semantic, expected_result.semantic)
    assert found.overflow.instances.tolist() == expected_result.overflow.instances.tolist()
    assert found.overflow.semantic.tolist() == expected_result.overflow.semantic.tolist()
    for index in range(len(images)):
        ours = found.regions.of_image(index)
        theirs = expected_result.regions.of_image(index)
        for field in dataclasses.fields(ours):
            one, other = getattr(ours, field.name), getattr(theirs, field.name)
            assert_close(one, other.to(one.dtype), atol=3e-5, rtol=1e-4, msg=field.name)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.seconds
def test_triton_equals_the_reference(name: str) -> None:
    compare(name, range(2), (0.75, 0.5), (4, 6))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_triton_equals_the_reference_for_every_option(name: str) -> None:
    compare(name, range(3, 6), (0.8, 0.65, 0.5), (7, 9))


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scene", SCENES)
def test_triton_equals_the_host_on_every_scene(preset: str, scene: str) -> None:
    if uniap(SCENES[scene], **PRESETS[preset]).doubtful:
        pytest.skip("a pair lies at a threshold")
    image = torch.from_numpy(SCENES[scene])[None]
    rounds = {"max_rounds": 24} if PRESETS[preset].get("rounds") == STABLE else {}
    found = agglomerate(image.to(DEVICE), **dict(PRESETS[preset]) | rounds, backend="triton")
    expected = agglomerate(image, **PRESETS[preset], backend="torch")
    assert found.overflow.rounds.tolist() == [0]
    assert torch.equal(found.labels.cpu(), expected.labels)


class Listener(TorchDispatchMode):
    """Notes every operation of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.heard.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


class Unheard:
    """A kernel whose launch is counted; what the interpreter does for it is not torch's."""

    launches = 0

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Any:
        def launch(*arguments: Any, **options: Any) -> None:
            Unheard.launches += 1
            with _disable_current_modes():
                self.kernel[grid](*arguments, **options)

        return launch


@pytest.mark.parametrize("name", ["paper", "recommended"])
def test_nothing_asks_the_device_for_an_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a CUDA graph can hold it: neither shapes nor launches depend on values."""
    for module in (components, segments, semantic, similarity, vote):
        for kernel in [word for word in vars(module) if word.endswith("_kernel")]:
            monkeypatch.setattr(module, kernel, Unheard(getattr(module, kernel)))
    monkeypatch.setattr(agglomeration_device, "refuse_what_is_not_finite", lambda features: None)
    options = OPTIONS[name] | {"thresholds": (0.7, 0.5), "max_rounds": 2}
    launches = []
    for features in (torch.from_numpy(smooth(3, 4, 10, 0))[None], torch.ones(1, 3, 4, 10)):
        Unheard.launches = 0
        with Listener() as listener:
            agglomerate(features.to(DEVICE), **options, backend="triton")
        launches.append(Unheard.launches)
        assert "scatter_add_" in listener.heard
        assert not listener.heard & set(WORDS_TO_THE_HOST)
    assert launches[0] == launches[1] > 10


def test_rounds_that_run_out_are_reported() -> None:
    features = torch.from_numpy(smooth(6, 6, 10, 0))[None].to(DEVICE)
    options = dict(similarity="feature", pooling="sum", linkage="reciprocal", rounds=STABLE)
    found = agglomerate(features, **options, thresholds=(0.5,), max_rounds=1, backend="triton")
    assert found.overflow.rounds.tolist() == [1]


@pytest.mark.slow
def test_a_fixed_order_gives_the_same_labels() -> None:
    features = torch.from_numpy(smooth(4, 5, 10, 1))[None].to(DEVICE)
    options = dict(thresholds=(0.6,), backend="triton")
    free = agglomerate(features, **options)
    fixed = agglomerate(features, **options, deterministic=True)
    again = agglomerate(features, **options, deterministic=True)
    assert torch.equal(free.labels, fixed.labels)
    for field in dataclasses.fields(fixed.regions):
        assert torch.equal(getattr(fixed.regions, field.name), getattr(again.regions, field.name))


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["paper", "author_code", "recommended"])
def test_a_cuda_graph_holds_it_without_a_word_to_the_host(name: str) -> None:
    features = torch.from_numpy(smooth(32, 40, 96, 0))[None].cuda()
    expected = agglomerate(features, **OPTIONS[name])
    torch.cuda.set_sync_debug_mode("error")
    try:
        agglomerate(features, **OPTIONS[name])
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = agglomerate(features, **OPTIONS[name])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph.replay()
    assert torch.equal(found.labels, expected.labels)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
def test_bfloat16_agrees_outside_the_band() -> None:
    agreed = 0
    for seed in range(40):
        image = torch.from_numpy(smooth(12, 14, 64, seed)).bfloat16()
        expected = uniap(image.float().numpy(), band=2e-3)
        if not expected.doubtful:
            labels = agglomerate(image[None].cuda()).labels.cpu().flatten(2)[:, 0]
            assert torch.equal(labels, torch.stack(list(map(torch.from_numpy, expected.labels))))
            agreed += 1
    assert agreed >= 5
