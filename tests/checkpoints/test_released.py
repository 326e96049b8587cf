"""The entries in `checkpoints/` are honest, and their table is the one in the README."""

import argparse

import pytest

from primum.checkpoints import commands, released
from primum.checkpoints.manifest import read_manifest

KNOWN = released.entries()


def test_there_are_entries():
    assert "language/smollm2_135m" in KNOWN


@pytest.mark.parametrize("name", KNOWN)
def test_an_entry_says_licence_level_and_what_it_is_not_for(name):
    manifest = read_manifest(KNOWN[name])
    assert manifest.name == name
    assert manifest.level in ("measured", "layout", "config")
    for key in ("title", "licence", "data", "intended_use", "not_for", "size"):
        assert manifest.card[key], key
    if manifest.level == "measured":
        assert manifest.metrics


def test_the_readme_is_what_the_manifests_say():
    text = (released.released_dir() / "README.md").read_text(encoding="utf-8")
    assert text == released.readme(), "run: primum checkpoints list --readme"


def test_the_list_shows_name_level_and_licence(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers())
    arguments = parser.parse_args(["checkpoints", "list"])
    assert arguments.run(arguments) == 0
    printed = capsys.readouterr().out
    assert "language/smollm2_135m" in printed
    assert "config" in printed and "Apache-2.0" in printed
