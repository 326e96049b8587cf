"""A server reads the pages: asked as the protocol says, resumed when it comes back."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.parsing.parity import TINY, WORD

from primum.cli import main
from primum.jobs.index import read_index
from primum.parsing.jobs import served
from primum.parsing.jobs.index import Entry
from primum.parsing.synthesis.page import make_page

CELLS = (
    '[{"bbox": [1, 2, 30, 20], "category": "Title", "text": "Dose"}, '
    '{"bbox": [1, 22, 90, 40], "category": "Text", "text": "five m'
)


class Server(ThreadingHTTPServer):
    """Answers `said`, with `code` while `busy`, and keeps what it was asked."""

    said, model, finish, busy, code = "# A page", "some/model", "stop", 0, 503
    pause = 0.0  # seconds before the first answer

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply({"data": [{"id": self.server.model}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.busy:
            self.server.busy -= 1
            self.send_error(self.server.code)
            return
        pause, self.server.pause = self.server.pause, 0.0
        time.sleep(pause)
        self.server.asked.append(body)
        message = {"role": "assistant", "content": self.server.said}
        choice = {"message": message, "finish_reason": self.server.finish}
        self.reply({"choices": [choice], "usage": {"completion_tokens": 7}})

    def reply(self, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        with suppress(BrokenPipeError):  # whoever asked may have given up
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(served, "PAUSE", 0.01)
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    for seed in range(4):
        make_page(seed, WORD).image.save(folder / f"{seed}.png")
    return folder


def parse(server: Server, pages: Path, out: Path, *more: str) -> int:
    url = f"http://127.0.0.1:{server.server_port}"
    return main(["parse", str(pages), "-o", str(out), "--endpoint", url, "--drafts", "none", *more])


def test_pages_are_asked_for_once(server: Server, pages: Path, tmp_path: Path) -> None:
    server.busy = 2
    assert parse(server, pages, tmp_path / "out", "--prompt", "Read.") == 0
    assert len(server.asked) == 4 and server.asked[0]["temperature"] == 0
    image, words = server.asked[0]["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert words["text"] == "Read." and server.asked[0]["model"] == "some/model"
    assert (tmp_path / "out" / "3.png.md").read_text() == "# A page\n"
    assert "waiting for the server" in (tmp_path / "out" / "report.html").read_text()
    assert parse(server, pages, tmp_path / "out", "--prompt", "Read.") == 0
    assert len(server.asked) == 4


def test_a_server_that_went_away_keeps_finished_pages(
    server: Server, pages: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first = pages / "0.png"
    assert parse(server, first, tmp_path / "out") == 0
    server.busy = 100
    assert parse(server, pages, tmp_path / "out", "--together", "1") == 2
    assert "finished pages are kept" in capsys.readouterr().err
    server.busy = 0
    asked = len(server.asked)
    assert parse(server, pages, tmp_path / "out") == 0
    assert len(server.asked) == asked + 3  # the first page was read before


def test_a_page_that_the_server_fails_on_stops_nothing(
    server: Server, pages: Path, tmp_path: Path
) -> None:
    def statuses(out: Path) -> list[str]:
        return [entry.status for entry in read_index(out, Entry)]

    server.busy, server.code = served.TRIES, 500
    assert parse(server, pages, tmp_path / "failed", "--together", "1") == 1
    assert statuses(tmp_path / "failed") == ["failed", "ok", "ok", "ok"]
    server.busy, server.code = 2, 429  # too many requests: no fault of the page
    assert parse(server, pages, tmp_path / "busy", "--together", "1") == 0
    server.pause = 1.0
    slow = parse(server, pages, tmp_path / "slow", "--together", "1", "--page-timeout", "0.3")
    assert slow == 0 and statuses(tmp_path / "slow") == ["timeout", "ok", "ok", "ok"]


def test_a_cut_json_still_becomes_markdown(server: Server, pages: Path, tmp_path: Path) -> None:
    server.model, server.said, server.finish = "dots-studio/dots.ocr", CELLS, "length"
    assert parse(server, pages / "0.png", tmp_path / "out") == 0
    told = json.loads((tmp_path / "out" / "0.png.json").read_text())
    assert (
        "Dose" in told["markdown"] and "five m" in told["markdown"] and "[" not in told["markdown"]
    )
    assert told["blocks"][0]["box"] is not None  # the model's own
    entry = json.loads((tmp_path / "out" / "index.jsonl").read_text())
    assert entry["status"] == "truncated"


def test_a_loop_is_told_and_cut(server: Server, pages: Path, tmp_path: Path) -> None:
    server.said, server.finish = "A dose of " + "five mg " * 40 + "five", "length"
    assert parse(server, pages / "0.png", tmp_path / "out", "--on-loop", "stop") == 0
    assert json.loads((tmp_path / "out" / "index.jsonl").read_text())["status"] == "looped"
    assert len((tmp_path / "out" / "0.png.md").read_text()) < 40


def test_what_a_server_cannot_do_is_refused(
    server: Server, pages: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert parse(server, pages, tmp_path / "out", "--verify") == 2
    assert parse(server, pages, tmp_path / "out", "--devices", "2") == 2
    server.model = ""
    assert "--model" in capsys.readouterr().err


def test_an_estimate_times_the_server_and_the_model_in_turn(
    server: Server, pages: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    TINY.model().save_pretrained(tmp_path / "model")
    TINY.processor().save_pretrained(tmp_path / "model")
    command = [
        "parse", "estimate", str(pages), "--endpoint", f"http://127.0.0.1:{server.server_port}",
        "--pages", "2", "--gpu-price", "2.5", "--max-new-tokens", "4", "--drafts", "none",
    ]  # fmt: skip
    assert main([*command, "--model", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    assert "4 pages, from 2 of them" in said and "is the cheapest" in said
    assert "not measured" not in said and len(server.asked) == 3  # one to warm up
    assert main(command) == 0
    assert "plain: not measured: no --model was given" in capsys.readouterr().out
