"""`primum doctor` tells what is there and names a torchvision that torch cannot work with."""

import builtins
from typing import Any

import pytest

from primum import doctor
from primum.cli import main


def test_it_prints_versions_devices_and_caches(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    said = capsys.readouterr().out
    for line in ("python", "torch", "transformers", "cuda", "kernel path", "cache", "hf cache"):
        assert f"\n{line} " in f"\n{said}"


def test_a_torchvision_built_for_another_torch_is_recognised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = builtins.__import__

    def mismatched(name: str, *rest: Any, **options: Any) -> Any:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return original(name, *rest, **options)

    monkeypatch.setattr(doctor, "installed", lambda package: "0.29.2")
    monkeypatch.setattr(builtins, "__import__", mismatched)
    assert doctor.run(None) == 1  # type: ignore[arg-type]
    assert "pip install --upgrade torch torchvision" in capsys.readouterr().out
