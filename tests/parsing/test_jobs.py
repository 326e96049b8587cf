"""`primum parse`: same output with drafts, nothing read twice, one bad page stops nothing."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.parsing.parity import TINY, WORD

from primum.cli import main
from primum.errors import UserError
from primum.jobs.index import Index, read_index
from primum.jobs.shards import share
from primum.parsing.decoding.decoder import Decoder
from primum.parsing.jobs.index import Entry
from primum.parsing.jobs.inputs import find_pages, page_range
from primum.parsing.jobs.job import Job
from primum.parsing.jobs.output import Output
from primum.parsing.jobs.reading import Here, Limits
from primum.parsing.pretrained import PretrainedVlm
from primum.parsing.reader import PageReader
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.synthesis.page import make_page, make_pdf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    network = TINY.model()
    with torch.no_grad():
        network.get_input_embeddings().weight[:5] = 0  # untrained, it would repeat <start>
    network.save_pretrained(folder)
    TINY.processor().save_pretrained(folder)
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two pictures, a PDF of three pages, and a blank, a broken and an empty file."""
    folder = tmp_path / "scans"
    (folder / "below").mkdir(parents=True)
    pages = [make_page(seed, WORD) for seed in range(5)]
    pages[0].image.save(folder / "a.png")
    pages[1].image.save(folder / "below" / "b.jpg")
    (folder / "c.pdf").write_bytes(make_pdf(pages[2:]))
    Image.new("L", (64, 48), 255).save(folder / "d.png")
    (folder / "e.png").write_bytes(b"no picture")
    (folder / "f.pdf").write_bytes(b"")
    return folder


def job(model: Path, folder: Path, mode: str = "page", tokens: int = 24, **options: Any) -> Job:
    proposers = [] if mode == "plain" else [RegionMatch, OwnOutput]
    decoder = Decoder(mode, proposers, batch=1)  # type: ignore[arg-type]
    reader = PageReader(PretrainedVlm(str(model), dtype="float32"), decoder=decoder)
    limits = Limits(tokens, options.pop("timeout", None), options.pop("on_loop", "keep"))
    return Job(Here(reader), Output(folder), limits=limits, **options)


def written(folder: Path) -> dict[str, str]:
    return {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*.md")}


def test_drafts_change_nothing_and_bad_pages_are_told(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    pages = list(find_pages(scans))
    plain = job(model, tmp_path / "plain", "plain").run(pages)
    drafted = job(model, tmp_path / "drafted", drafts="text").run(pages)
    assert written(tmp_path / "plain") == written(tmp_path / "drafted")
    assert [entry.status for entry in plain] == [entry.status for entry in drafted]
    status = {entry.name: entry.status for entry in plain}
    assert status["d.png"] == "blank" and status["e.png"] == status["f.pdf/0001"] == "failed"
    assert set(written(tmp_path / "plain")) == {
        "a.png.md", "below/b.jpg.md", "c.pdf/0001.md", "c.pdf/0002.md", "c.pdf/0003.md", "d.png.md",
    }  # fmt: skip
    told = json.loads((tmp_path / "drafted" / "c.pdf" / "0001.json").read_text())
    assert told["page"] == 1 and told["drafted_regions"]


def test_what_another_program_kept_drafts_first(model: Path, scans: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    (kept / "c" / "auto").mkdir(parents=True)
    items = [
        {"type": "text", "text": "kept", "bbox": [0, 0, 500, 1000], "page_idx": n} for n in range(2)
    ]
    (kept / "c" / "auto" / "c_content_list.json").write_text(json.dumps(items))
    (kept / "a.json").write_text("{")
    pages = list(find_pages(scans))[:5]
    plain = job(model, tmp_path / "plain", "plain")
    plain.run(pages)
    drafted = job(model, tmp_path / "drafted", drafts="text", saved=kept)
    entries = {entry.name: entry for entry in drafted.run(pages)}
    assert written(tmp_path / "plain") == written(tmp_path / "drafted")
    assert "a.json" in entries["a.png"].reason
    (second,) = drafted.draft(pages[2]).regions
    assert second.text == "kept" and second.box.right == pages[2].image(drafted.dpi).width / 2
    third = drafted.draft(pages[4]).regions  # not kept: what the PDF says of itself
    assert third and "kept" not in {region.text for region in third}


def test_a_second_run_reads_nothing_but_what_is_asked_for(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    pages = list(find_pages(scans))
    seen: list[str] = []
    first = job(model, tmp_path / "out", "plain")
    entries = first.run(pages[:2])
    index = tmp_path / "out" / "index.jsonl"
    index.write_bytes(index.read_bytes() + b'{"torn')
    again = job(model, tmp_path / "out", "plain")
    before: list[int] = []
    again.run(pages, tell=lambda page, _: seen.append(page.name), kept=before.append)
    assert len(seen) == len(pages) - 2 and entries[0].name not in seen and before == [2]
    seen.clear()
    again.run(pages, again=["failed"], tell=lambda page, _: seen.append(page.name))
    assert seen == ["e.png", "f.pdf/0001"]
    seen.clear()
    other = job(model, tmp_path / "out", "plain", dpi=100)  # other settings, other pages
    other.run(pages[:1], tell=lambda page, _: seen.append(page.name))
    assert seen == ["a.png"]


@pytest.mark.seconds
def test_shards_together_are_the_whole(model: Path, scans: Path, tmp_path: Path) -> None:
    pages = list(find_pages(scans))
    whole = job(model, tmp_path / "whole", "plain").run(pages)
    for number in range(2):
        job(model, tmp_path / "parts", "plain", shard=(number, 2)).run(pages)
    assert written(tmp_path / "parts") == written(tmp_path / "whole")
    keys = {entry.key for entry in read_index(tmp_path / "parts", Entry)}
    assert keys == {entry.key for entry in whole}


class Broken:
    name = "broken"

    def __call__(self, image: object) -> list:
        raise RuntimeError("no")


class Slow(Broken):
    def __call__(self, image: object) -> list:
        time.sleep(600)
        return []


class Dying(Broken):
    def __call__(self, image: object) -> list:
        os._exit(3)


@pytest.mark.parametrize(
    ("drafter", "workers", "problem"),
    [(Broken, 0, "no"), (Broken, 1, "no"), (Slow, 1, "too long"), (Dying, 1, "died")],
)
@pytest.mark.seconds
def test_a_failing_drafter_is_a_fallback(
    model: Path, scans: Path, tmp_path: Path, drafter: type, workers: int, problem: str
) -> None:
    options = {"drafts": "ocr", "drafter": drafter, "workers": workers}
    patience = 1.0 if drafter is Slow else 120.0
    failing = job(model, tmp_path / "out", patience=patience, **options)
    (entry,) = failing.run(list(find_pages(scans / "a.png")))
    assert "no drafts" in entry.reason and problem in entry.reason
    assert entry.status in ("fallback", "truncated", "looped")


@pytest.mark.parametrize("mode", ["plain", "page"])
def test_a_page_that_takes_too_long_is_cut(
    model: Path, scans: Path, tmp_path: Path, mode: str
) -> None:
    short = job(model, tmp_path / "out", mode, tokens=4000, drafts="none", timeout=1e-6)
    (entry,) = short.run(list(find_pages(scans / "a.png")))
    assert entry.status in ("timeout", "ok") and entry.tokens < 100


def test_the_command(
    model: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = str(tmp_path / "out")
    common = ["-o", out, "--model", str(model), "--drafts", "none", "--max-new-tokens", "8"]
    assert main(["parse", str(scans / "c.pdf"), "--pages", "2-3", *common]) == 0
    assert "2 pages" in capsys.readouterr().out
    assert main(["parse", str(scans), *common]) == 1
    assert "failed" in capsys.readouterr().out
    assert main(["parse", str(tmp_path / "nowhere"), *common]) == 2


@pytest.mark.parametrize("text", ["0-3", "5-2", "x", "-1"])
def test_wrong_ranges_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        page_range(text)


def test_small_things(tmp_path: Path) -> None:
    assert share("1/1") == (0, 1)
    with pytest.raises(ValueError):
        share("3/2")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures"):
        list(find_pages(tmp_path / "empty"))
    index = Index(tmp_path / "out", Entry)
    index.append(Entry("k", "page", "ok"))
    with pytest.raises(UserError, match="Another job"):
        Index(tmp_path / "out", Entry)
    index.close()
    (tmp_path / "out" / "index.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="damaged"):
        read_index(tmp_path / "out", Entry)
