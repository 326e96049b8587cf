"""Released weights are downloaded once, resumed where they stopped, and believed by their hash."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from primum.checkpoints.weights import fetched
from primum.errors import UserError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HASHES = {"model.safetensors": hashlib.sha256(CONTENT).hexdigest()}


class Shelf(BaseHTTPRequestHandler):
    """Serves CONTENT, ranges too; can break off halfway."""

    asked: list[str | None] = []  # noqa: RUF012
    stop_after: int | None = None
    ranges = True

    def do_GET(self):
        wanted = self.headers.get("Range")
        Shelf.asked.append(wanted)
        if not self.path.endswith("/model.safetensors"):
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.stop_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Shelf.asked, Shelf.stop_after, Shelf.ranges = [], None, True
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/released"
    server.shutdown()
    server.server_close()


def test_weights_are_downloaded_once(address):
    folder = fetched(address, HASHES)
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert fetched(address + "/", HASHES) == folder
    assert Shelf.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_resumed(address, tmp_path, ranges):
    Shelf.stop_after, Shelf.ranges = 300_000, ranges
    with pytest.raises(UserError, match="run it again"):
        fetched(address, HASHES)
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    Shelf.stop_after = None
    folder = fetched(address, HASHES)
    assert (folder / "model.safetensors").read_bytes() == CONTENT
    assert Shelf.asked == [None, "bytes=300000-"]
    assert [file.name for file in folder.iterdir()] == ["model.safetensors"]


def test_other_bytes_are_refused_and_not_kept(address, tmp_path):
    with pytest.raises(UserError, match="not the file the manifest was written for"):
        fetched(address, {"model.safetensors": "0" * 64})
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_what_is_not_there_is_told(address):
    with pytest.raises(UserError, match="404"):
        fetched(address, {"other.safetensors": "0" * 64})
    with pytest.raises(UserError, match="could not be downloaded"):
        fetched("http://127.0.0.1:9/released", HASHES)


def test_altered_bytes_in_the_cache_are_fetched_again(address):
    folder = fetched(address, HASHES)
    (folder / "model.safetensors").write_bytes(b"altered")
    assert (fetched(address, HASHES) / "model.safetensors").read_bytes() == CONTENT
