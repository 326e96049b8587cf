"""SIGKILL at any moment loses no acknowledged event and breaks no chain."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from primum.alignment.trust.store import Store, payload_lines
from primum.alignment.trust.verify import verify

WRITER = """
import sys
from primum.alignment.trust.store import Store
from tests.alignment.trust.rows import create
store = Store(sys.argv[1])
for number in range(10**6):
    for event in store.append([create(f"{sys.argv[2]}-{number}-{i}", number) for i in range(2)]):
        print(event.hash, flush=True)
"""


def survives(folder: Path, kills: int) -> None:
    store = folder / "trust"
    Store.create(store)
    chance = random.Random(0)
    told: list[str] = []
    root = Path(__file__).parents[3]
    for number in range(kills):
        log = folder / "said"
        with log.open("wb") as stream:
            writer = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(store), f"w{number}"], stdout=stream, cwd=root
            )
            while not log.stat().st_size:  # it has begun to append
                assert writer.poll() is None
                time.sleep(0.002)
            time.sleep(chance.random() * 0.03)
            writer.send_signal(signal.SIGKILL)
            writer.wait()
        told += log.read_bytes().decode().split("\n")[:-1]
        if number % 10 == 9:
            assert verify(store).whole
    verdict = verify(store)
    assert verdict.whole, verdict
    there = Store(store)
    hashes = [event.hash for event in there.events]
    assert set(told) <= set(hashes) and len(told) > kills
    said = {event.commitment for event in there.events}
    there.append([])
    with there.locked():
        pass  # clears what the last kill left
    for file in (store / "payloads").rglob("*.jsonl"):
        assert {commitment for commitment, _, _ in payload_lines(file)} <= said


@pytest.mark.process
def test_a_few_kills(tmp_path: Path) -> None:
    survives(tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_kills(tmp_path: Path) -> None:
    survives(tmp_path, 200)
