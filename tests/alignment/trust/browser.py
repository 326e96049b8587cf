"""A real browser without a head, driven over the W3C WebDriver protocol."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROME = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
BACKSPACE, RIGHT, CONTROL, ENTER = "\ue003", "\ue014", "\ue009", "\ue007"


class Browser:
    """One session of chromedriver."""

    def __init__(self, address: str, downloads: Path) -> None:
        self.address = address
        options = {
            "binary": CHROME,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
            "prefs": {"download.default_directory": str(downloads)},
        }
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self.session = self.call("POST", "/session", wanted)["sessionId"]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        self.call("POST", f"/session/{self.session}/url", {"url": page.as_uri()})

    def press(self, *keys: str) -> None:
        """Press and release each key; a key that is held down is given as `held+key`."""
        actions: list[dict[str, str]] = []
        for key in keys:
            *held, last = key.split("+") if len(key) > 1 else [key]
            chord = [*held, last]
            actions += [{"type": "keyDown", "value": one} for one in chord]
            actions += [{"type": "keyUp", "value": one} for one in reversed(chord)]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        self.call("POST", f"/session/{self.session}/actions", {"actions": [source]})

    def run(self, script: str) -> Any:
        body = {"script": script, "args": []}
        return self.call("POST", f"/session/{self.session}/execute/sync", body)


@contextmanager
def browser(downloads: Path) -> Iterator[Browser]:
    """Start driver and browser, and end both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert DRIVER is not None
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/status", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        one = Browser(address, downloads)
        try:
            yield one
        finally:
            one.call("DELETE", f"/session/{one.session}")
    finally:
        driver.terminate()
        driver.wait()
