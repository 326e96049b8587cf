"""Jobs of many pages: little memory, kills that cost a page at most, shards, poison."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pypdfium2 as pdfium
import pytest
from tests.parsing.scripted_reads import Scripted, resident

from primum.jobs.index import read_index
from primum.parsing.jobs.devices import merge
from primum.parsing.jobs.exports import latest
from primum.parsing.jobs.index import Entry
from primum.parsing.jobs.inputs import PageInput, find_pages
from primum.parsing.jobs.job import Job
from primum.parsing.jobs.output import Output
from primum.parsing.synthesis.page import Recipe, make_page, make_pdf

SMALL = Recipe(width=(160, 176), characters=(30, 60), paragraph=60, chances={}, margin=4)


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("ten") / "ten.pdf"
    file.write_bytes(make_pdf([make_page(seed, SMALL) for seed in range(10)]))
    return file


def repeated(source: Path, times: int, target: Path) -> Path:
    whole, one = pdfium.PdfDocument.new(), pdfium.PdfDocument(source)
    for _ in range(times):
        whole.import_pages(one)
    whole.save(target)
    return target


def job(folder: Path, **options: object) -> Job:
    shard = options.pop("shard", (0, 1))
    return Job(Scripted(**options), Output(folder), drafts="text", dpi=36, shard=shard)  # type: ignore[arg-type]


def files(folder: Path, *suffixes: str) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in sorted(folder.rglob("*"))
        if file.suffix in suffixes and not file.name.startswith(("index", "."))
    }


def test_drafted_pages_take_few_forwards(ten: Path, tmp_path: Path) -> None:
    entries = job(tmp_path / "out").run(list(find_pages(ten)))
    assert [entry.status for entry in entries] == ["ok"] * 10
    tokens, forwards = (
        sum(getattr(one, name) for one in entries) for name in ("tokens", "forwards")
    )
    assert tokens > 3 * forwards and sum(entry.accepted for entry in entries) > tokens / 2


def test_two_shards_merged_are_one_run(ten: Path, tmp_path: Path) -> None:
    pages = list(find_pages(ten))
    job(tmp_path / "whole").run(pages)
    for number in range(2):
        job(tmp_path / "parts", shard=(number, 2)).run(pages)
    assert len(list((tmp_path / "parts").glob("index-*.jsonl"))) == 2
    assert merge(tmp_path / "parts") == 10
    assert files(tmp_path / "parts", ".md", ".json") == files(tmp_path / "whole", ".md", ".json")
    one, two = (latest(tmp_path / name) for name in ("whole", "parts"))
    told = [[(e.key, e.name, e.status, e.tokens) for e in side] for side in (one, two)]
    assert told[0] == told[1]
    again = job(tmp_path / "parts")
    seen: list[str] = []
    again.run(pages, tell=lambda page, _: seen.append(page.name))
    assert not seen


def test_one_poisoned_page_never_stops_the_rest(ten: Path, tmp_path: Path) -> None:
    pages = list(find_pages(ten))
    width = pages[3].image(36).width
    ill = {page.name for page in pages if page.image(36).width == width}
    entries = job(tmp_path / "out", poison=width).run(pages)
    assert {entry.name for entry in entries if entry.status == "failed"} == ill
    assert all("poisoned" in entry.reason for entry in entries if entry.name in ill)
    assert {entry.status for entry in entries if entry.name not in ill} <= {"ok"}


@pytest.mark.process
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_kill_costs_the_page_in_work_at_most(ten: Path, tmp_path: Path, kills: int) -> None:
    count = 10 * (1 if kills == 1 else 12)
    source = repeated(ten, count // 10, tmp_path / "source.pdf")
    out, log = tmp_path / "out", tmp_path / "log"
    command = [sys.executable, "-m", "tests.parsing.scripted_reads", source, out, log, "0.05"]
    luck = random.Random(kills)
    done = 0
    for _ in range(kills):
        running = subprocess.Popen([str(part) for part in command])
        before = done
        while running.poll() is None and done == before:  # somewhere behind its first page
            time.sleep(0.01)
            done = len(read_index(out, Entry)) if out.is_dir() else 0
        time.sleep(luck.uniform(0, 0.15))
        if running.poll() is None:
            os.kill(running.pid, signal.SIGKILL)
        running.wait()
        done = len(read_index(out, Entry))
    subprocess.run([str(part) for part in command], check=True)
    read = log.read_text().splitlines()
    assert count <= len(read) <= count + kills
    assert len({entry.key for entry in read_index(out, Entry)}) == count
    job(tmp_path / "whole").run(list(find_pages(source)))
    assert files(out, ".md", ".json") == files(tmp_path / "whole", ".md", ".json")
    assert not list(out.rglob(".*"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", ["one file", "500 files"])
def test_memory_of_five_thousand_pages(ten: Path, tmp_path: Path, shape: str) -> None:
    if shape == "one file":
        source = repeated(ten, 500, tmp_path / "source.pdf")
    else:
        source = tmp_path / "source"
        source.mkdir()
        for number in range(500):
            (source / f"{number:03d}.pdf").write_bytes(ten.read_bytes())
    at: dict[int, float] = {}

    def tell(page: PageInput, entry: Entry) -> None:
        count[0] += 1
        if count[0] in (100, 5000):
            at[count[0]] = resident()

    count = [0]
    entries = job(tmp_path / "out").run(list(find_pages(source)), tell=tell)
    assert len(entries) == 5000 and {entry.status for entry in entries} == {"ok"}
    print(json.dumps({"shape": shape, "MiB": at}))
    assert at[5000] - at[100] <= 300


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(3600)
def test_a_hundred_pages_with_the_real_drafter_and_a_real_model(tmp_path: Path) -> None:
    source, out = tmp_path / "source.pdf", tmp_path / "out"
    source.write_bytes(make_pdf([make_page(seed) for seed in range(100)]))
    command = [sys.executable, "-m", "primum.cli", "parse", str(source), "-o", str(out)]
    command += ["--model", "docvlm-tiny", "--drafts", "ocr"]

    def run(until: int) -> list[float]:
        """Memory in MiB from the tenth page on, until so many are done."""
        before = len(read_index(out, Entry)) if out.is_dir() else 0
        with subprocess.Popen(command) as running:
            seen, done = [], 0
            while running.poll() is None and done < until:
                time.sleep(0.5)
                done = len(read_index(out, Entry)) if out.is_dir() else 0
                seen += [resident(running.pid)] if done >= before + 10 else []
            if running.poll() is None and until < 100:
                running.kill()
        return seen

    run(30)
    kept = {entry.key for entry in read_index(out, Entry)}
    assert 30 <= len(kept) < 40
    seen = run(100)
    entries = read_index(out, Entry)
    assert len(entries) == len({entry.key for entry in entries}) == 100
    assert {entry.status for entry in entries} <= {"ok", "truncated"}
    drafted = sum(entry.accepted > 0 for entry in entries)
    tokens, forwards = (sum(getattr(e, name) for e in entries) for name in ("tokens", "forwards"))
    told = {"drafted": drafted, "tokens a forward": tokens / forwards, "MiB": [seen[0], max(seen)]}
    print(json.dumps(told))
    assert drafted >= 80 and max(seen) - seen[0] <= 300
