"""What is built and installed holds what runs need, from any folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.process
def test_the_wheel_holds_both_roots_and_the_configs(tmp_path: Path) -> None:
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    child = subprocess.run(
        [sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=True
    )
    held = zipfile.ZipFile(tmp_path / child.stdout.split()[-1]).namelist()
    for name in (
        "primum/conf/train.yaml",
        "primum/conf/experiment/alignment/quickstart.yaml",
        "primum/alignment/data/twins.jsonl",
        "primum/judges/refusal_labels.jsonl",
        "primum_kernels/__init__.py",
    ):
        assert name in held
    assert not [name for name in held if name.startswith(("tests/", "outputs/"))]


@pytest.mark.process
def test_the_configs_are_found_from_another_folder(tmp_path: Path) -> None:
    code = "import primum; print((primum.conf_dir() / 'train.yaml').is_file())"
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == "True"


def test_constraints_pin_versions_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in pin and "://" not in pin and "@" not in pin for pin in pins)
    names = {pin.split("==")[0] for pin in pins}
    assert {"torch", "torchvision", "lightning", "transformers", "hydra-core"} <= names
