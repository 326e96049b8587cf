"""Whatever a page is, the job goes on, and the index says what was wrong in the user's words."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from reportlab.pdfgen.canvas import Canvas
from tests.parsing.scripted_reads import Scripted

from primum.cli import main
from primum.errors import UserError
from primum.jobs.index import read_index
from primum.parsing.jobs.index import Entry
from primum.parsing.jobs.inputs import LARGEST, find_pages, is_blank
from primum.parsing.jobs.job import Job
from primum.parsing.jobs.output import Output
from primum.parsing.jobs.reading import Limits, Reading
from primum.parsing.regions import Box, Region
from primum.parsing.synthesis.page import Recipe, make_page, make_pdf

WORD = Recipe(width=(112, 128), characters=(4, 10), paragraph=10, chances={}, margin=4)


def pdf(size: tuple[float, float] = (120, 80), text: str = "five mg", **options: str) -> bytes:
    stream = io.BytesIO()
    canvas = Canvas(stream, pagesize=size, **options)  # type: ignore[arg-type]
    canvas.drawString(10, 40, text)
    canvas.save()
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    made.mkdir()
    (made / "a.pdf").write_bytes(pdf())
    (made / "broken.pdf").write_bytes(pdf()[:200])
    (made / "huge.pdf").write_bytes(pdf((14_000, 300)))
    (made / "locked.pdf").write_bytes(pdf(encrypt="secret"))
    Image.new("RGB", (64, 48), "white").save(made / "blank.png")
    Image.new("1", (20_000, 8)).save(made / "wide.png")
    (made / "zero.png").write_bytes(b"")
    make_page(1, WORD).image.rotate(90, expand=True).save(made / "turned.png")
    return made


def test_every_page_ends_in_the_index(folder: Path, tmp_path: Path) -> None:
    job = Job(Scripted(), Output(tmp_path / "out"), drafts="text", dpi=72)
    found = {entry.name: entry for entry in job.run(list(find_pages(folder)))}
    assert {name: entry.status for name, entry in found.items()} == {
        "a.pdf/0001": "ok", "blank.png": "blank", "broken.pdf/0001": "failed",
        "huge.pdf/0001": "failed", "locked.pdf/0001": "failed", "turned.png": "ok",
        "wide.png": "failed", "zero.png": "failed",
    }  # fmt: skip
    assert "encrypted" in found["locked.pdf/0001"].reason
    assert "14000 x 300" in found["huge.pdf/0001"].reason
    assert "20000 x 8" in found["wide.png"].reason and LARGEST < 14_000


@pytest.mark.parametrize(
    ("name", "said"), [("locked.pdf", "password"), ("broken.pdf", "cannot be read")]
)
def test_one_bad_file_is_one_clear_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str, said: str
) -> None:
    command = ["parse", str(folder / name), "-o", str(tmp_path / "out"), "--model", "docvlm-tiny"]
    assert main(command) == 2
    assert said in capsys.readouterr().err


def test_a_photograph_is_read_the_way_a_viewer_shows_it(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "white")
    tags = Image.Exif()
    tags[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=tags)
    (page,) = find_pages(tmp_path / "turned.jpg")
    assert page.image().size == (20, 40)


def test_scans_without_a_ground_and_with_sixteen_bits_are_no_blank_pages(tmp_path: Path) -> None:
    printed = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    printed.paste((0, 0, 0, 255), (5, 5, 15, 10))
    printed.save(tmp_path / "clear.png")
    deep = Image.new("I;16", (40, 20), 60_000)
    deep.paste(20_000, (5, 5, 15, 10))
    deep.save(tmp_path / "deep.png")
    for page in find_pages(tmp_path):
        image = page.image()
        assert not is_blank(image)
        assert image.getpixel((0, 0)) == (255, 255, 255) and image.getpixel((6, 6)) == (0, 0, 0)


def test_every_page_of_a_tiff_is_read(tmp_path: Path) -> None:
    sheets = [Image.new("RGB", (40 + place, 20), "white") for place in range(3)]
    sheets[0].save(tmp_path / "scan.tif", save_all=True, append_images=sheets[1:])
    sheets[0].save(tmp_path / "single.tiff")
    (tmp_path / "torn.tif").write_bytes((tmp_path / "scan.tif").read_bytes()[:30])
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.7")
    found = {page.name: page for page in find_pages(tmp_path)}
    several = [f"scan.tif/000{number}" for number in (1, 2, 3)]
    assert list(found) == [*several, "single.tiff", "torn.pdf/0001", "torn.tif"]
    assert [found[name].image().width for name in several] == [40, 41, 42]
    assert len({found[name].key for name in several}) == 3
    assert not found[several[0]].text_layer()
    with pytest.raises(UserError, match=r"torn\.tif"):
        found["torn.tif"].image()
    chosen = [page.name for page in find_pages(tmp_path, range(1, 3))]
    assert chosen == [*several[1:], "single.tiff", "torn.pdf/0001", "torn.tif"]


@pytest.mark.parametrize("given", [[], ["--model", ""]])
def test_no_model_is_chosen_in_silence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, given: list[str]
) -> None:
    assert main(["parse", str(folder), "-o", str(tmp_path / "out"), *given]) == 2
    said = capsys.readouterr().err
    assert "No model was named" in said and "Apache-2.0" in said and "demo only" in said


@pytest.mark.parametrize(
    "given", [["--pages", "0-3"], ["--shard", "3/2"], ["--max-new-tokens", "0"], ["--dpi", "3"]]
)
def test_numbers_that_make_no_sense(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, given: list[str]
) -> None:
    common = ["parse", str(folder), "-o", str(tmp_path / "out"), "--model", "docvlm-tiny"]
    assert main([*common, *given]) == 2
    assert "primum: " in capsys.readouterr().err


class Strange(Scripted):
    def read(
        self, image: object, regions: list[Region], limits: Limits, drafting: float = 0.0
    ) -> Reading:
        return Reading("five mg", 7)


def test_drafts_that_nobody_can_spell_are_no_trouble(folder: Path, tmp_path: Path) -> None:
    class Drafter:
        name = "strange"

        def __call__(self, image: object) -> list[Region]:
            return [
                Region(Box(1, 1, 9, 9), "text", "日本 \ud800 five mg"),
                Region(Box(0, 0, 0, 0), "figure"),
            ]

    job = Job(Strange(), Output(tmp_path / "out"), drafts="ocr", drafter=Drafter)
    (entry,) = job.run(list(find_pages(folder / "turned.png")))
    assert entry.status == "ok"


@pytest.mark.process
def test_an_interrupt_keeps_finished_pages(tmp_path: Path) -> None:
    source, out = tmp_path / "source.pdf", tmp_path / "out"
    source.write_bytes(make_pdf([make_page(seed, WORD) for seed in range(20)]))
    command = [
        sys.executable,
        "-m",
        "tests.parsing.scripted_reads",
        source,
        out,
        tmp_path / "log",
        "1.0",
    ]
    running = subprocess.Popen(
        [str(part) for part in command],
        stderr=subprocess.DEVNULL,
        # a shell's background job, and so its tests, inherit an ignored SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while running.poll() is None and not (out.is_dir() and len(read_index(out, Entry)) >= 2):
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGINT)
    running.wait()
    kept = read_index(out, Entry)
    assert 2 <= len(kept) < 20
    assert all((out / f"{entry.name}.md").is_file() for entry in kept)
