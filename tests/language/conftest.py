"""Tiny random models of three architectures, made once, and templates written for these tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from primum.checkpoints.tiny import make_tiny
from primum.language.source import Source

TEMPLATES = Path(__file__).parent / "templates"
SHARED = Path(os.environ.get("PRIMUM_SHARED") or Path(__file__).parents[3] / "shared")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Source]:
    """`tiny("llama")`: a model of that architecture; `tiny("llama", "unclosed")` other template."""
    folder = tmp_path_factory.mktemp("tiny")

    def source(architecture: str, template: str | None = None) -> Source:
        if not (folder / architecture).is_dir():
            make_tiny(folder / architecture, architecture)
        chat_template = None if template is None else str(TEMPLATES / f"{template}.jinja")
        return Source(str(folder / architecture), dtype="float32", chat_template=chat_template)

    return source


@pytest.fixture
def shared_data() -> Path:
    """Third-party data beside the checkout; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no third-party data beside the checkout (PRIMUM_SHARED)")
    return SHARED / "data"
