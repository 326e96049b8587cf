"""A researcher's own package and conf, outside the repository, and the scripts they call."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from primum.entry.launch import launch

ROOT = Path(__file__).parents[2]

LINES = '''
"""A line through points: small enough to train in a blink."""

import os

import torch
from lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset

from primum.errors import UserError


class Line(LightningModule):
    """y = a x + b."""

    def __init__(self, optimizer, width=1, tags=()):
        super().__init__()
        if not isinstance(tags, (list, tuple)):
            raise TypeError(f"tags came as {type(tags).__name__}")
        self.layer = torch.nn.Linear(width, 1)
        self.build_optimizer = optimizer
        self.save_hyperparameters({"tags": tags})  # a ListConfig here would spoil the checkpoint

    def loss(self, batch):
        x, y = batch
        return (self.layer(x) - y).square().mean()

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch), sync_dist=True)

    def configure_optimizers(self):
        return self.build_optimizer(self.parameters())

    def answer(self, cases, settings):
        x = torch.tensor([[float(case.prompt)] for case in cases])
        return [f"{y:.3f}" for y in self.layer(x).flatten().tolist()]


class Points(LightningDataModule):
    """Points on y = 2 x - 1."""

    def __init__(self, rows=32, batch_size=4, fail="", width=1):
        super().__init__()
        self.rows, self.batch_size, self.width = rows, batch_size, width
        if fail == "user":
            raise UserError("The points are missing", file="points.csv", row=3, remedy="draw some")
        if fail == "bug":
            raise KeyError("a bug of ours")
        if fail == "exit":
            os.sys.exit(3)

    def points(self, seed):
        x = torch.randn(self.rows, self.width, generator=torch.Generator().manual_seed(seed))
        return TensorDataset(x, 2 * x.sum(1, keepdim=True) - 1)

    def train_dataloader(self):
        return DataLoader(self.points(0), self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.points(1), self.batch_size)
'''

RISING = '''
"""Does the line rise? Asked at whole numbers, one case each."""

from primum.benchmarks.benchmark import Benchmark, Judgement
from primum.benchmarks.cases import Case
from primum.metrics.proportion import proportion


class Rising(Benchmark):
    directions = {"close": True}
    labels = {"close": "within one half"}

    def __init__(self, name, cases, tolerance=0.5, **settings):
        super().__init__(name=name, **settings)
        self.count, self.tolerance = cases, tolerance

    def load_cases(self):
        return [
            Case(str(x), ({"role": "user", "content": str(x)},), reference=2 * x - 1)
            for x in range(self.count)
        ]

    def judge(self, case, answer):
        close = abs(float(answer.text) - case.reference) < self.tolerance
        return Judgement({}, {"close": close})

    def scores(self, results):
        hits = sum(result.scores["close"] for result in results)
        return {"close": proportion(hits, len(results), "close")}
'''

BENCHMARK = """# @package _global_
# Does the line rise?
name: mylab/rising
benchmark:
  _target_: mylab.rising.Rising
  name: ${name}
  title: Does the line rise?
  cases: 3
  batch_size: 2
"""

EXPERIMENT = """# @package _global_
# A line through points
name: mylab/line
trainer:
  max_epochs: 2
  log_every_n_steps: 1
  accelerator: cpu
module:
  _target_: mylab.lines.Line
  tags: [toy, line]
  optimizer:
    _target_: torch.optim.SGD
    _partial_: true
    lr: 0.05
data:
  _target_: mylab.lines.Points
  rows: 32
  fail: ""
benchmark: mylab/rising
trusted_modules: [mylab]
"""


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package `mylab` and the experiment `mylab/line` in my/conf."""
    folder = tmp_path_factory.mktemp("lab")
    files = {
        "mylab/__init__.py": "",
        "mylab/lines.py": LINES,
        "mylab/rising.py": RISING,
        "my/conf/experiment/mylab/line.yaml": EXPERIMENT,
        "my/conf/benchmark/mylab/rising.yaml": BENCHMARK,
    }
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(lab: Path, tmp_path: Path) -> Call:
    """Call a script from the lab's folder; keywords set the environment."""

    def run(
        script: str,
        *words: str,
        launcher: tuple[str, ...] = (),
        cwd: Path = lab,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        own = {
            "PRIMUM_OUTPUTS": str(tmp_path / "outputs"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        drop = ("PRIMUM_RUN_ID", "HYDRA_FULL_ERROR", "RANK", "WORLD_SIZE", "LOCAL_RANK")
        inherited = {name: value for name, value in os.environ.items() if name not in drop}
        command = [sys.executable, *launcher, str(ROOT / f"{script}.py"), *words]
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=inherited | own | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            said, complained = process.communicate(timeout=600)
        finally:  # ranks it started must not outlive it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(command, process.returncode, said, complained)

    return run


@pytest.fixture
def train(call: Call) -> Call:
    """Train with the lab's conf."""

    def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return call("train", "--config-dir", "my/conf", *words, **options)

    return run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def train_here(
    lab: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    """Train in this process: the same script and conf, without the seconds that imports take."""
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    root = logging.getLogger()
    handlers = list(root.handlers)
    monkeypatch.chdir(lab)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PRIMUM_OUTPUTS", str(outputs))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "train.py"), "--config-dir", "my/conf", *words]
        monkeypatch.setattr(sys, "argv", list(command))
        monkeypatch.setenv("PRIMUM_RUN_ID", "")
        with pytest.raises(SystemExit) as end:
            launch(script.train, "train")
        said, complained = capfd.readouterr()
        return subprocess.CompletedProcess(command, int(end.value.code or 0), said, complained)

    yield run
    root.handlers[:] = handlers
