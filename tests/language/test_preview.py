"""The preview shows what carries loss, and fails when a turn does not learn to end."""

from __future__ import annotations

import argparse
import io
import json
import re

import pytest
from rich.console import Console

from primum.errors import UserError
from primum.language import commands
from primum.language import preview as previews
from primum.language.chat import Encoded
from primum.language.formats import read_conversations


@pytest.fixture
def data(tmp_path):
    file = tmp_path / "data.jsonl"
    rows = [{"prompt": f"May I? {i}", "completion": "No: 药é <b>\x1b[31m"} for i in range(5)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers())
    arguments = parser.parse_args(["data", "preview", *words])
    return arguments.run(arguments)


def test_learned_text_stands_in_brackets_where_there_is_no_colour(tiny, data, capsys):
    source = tiny("qwen3")
    assert run(str(data), "--model", source.name, "--rows", "2", "--thinking", "drop") == 0
    shown = capsys.readouterr().out
    assert shown.count("⟦No: 药é <b>\\x1b[31m<|im_end|>⟧") == 2  # and the escape is disarmed
    assert "data.jsonl, row 2" in shown and "row 3" not in shown
    found = re.search(r"2 rows, (\d+) tokens, (\d+) learned", shown)
    tokenizer = source.tokenizer()
    encoded = previews.preview(tokenizer, read_conversations(data)[:2], thinking="drop")
    assert int(found[1]) == sum(len(one.encoded.input_ids) for one in encoded)
    assert int(found[2]) == sum(sum(one.encoded.loss_mask) for one in encoded)
    assert "learned in each of 2 learned turns" in shown and source.name in shown


def test_colours_mark_learned_ending_and_context(tiny, data):
    tokenizer = tiny("llama").tokenizer()
    shown = previews.preview(tokenizer, read_conversations(data)[:1])
    by_style = {style: "" for style in (previews.LEARNED, previews.ENDING, previews.CONTEXT)}
    for piece, style in shown[0].pieces:
        by_style[style] += piece
    assert by_style[previews.LEARNED] == "No: 药é <b>\\x1b[31m"
    assert by_style[previews.ENDING] == "<|eot_id|>"
    assert "May I? 0" in by_style[previews.CONTEXT]
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="standard", width=200)
    assert previews.show(shown, tokenizer, console=console)
    assert "\x1b[1;30;42m" in stream.getvalue() and "⟦" not in stream.getvalue()


def test_html_is_one_escaped_page(tiny, data, tmp_path, capsys):
    page = tmp_path / "out.html"
    assert run(str(data), "--model", tiny("llama").name, "--html", str(page)) == 0
    html = page.read_text()
    assert "&lt;b&gt;" in html and "<b>" not in html and "http" not in html


def test_an_end_of_turn_without_loss_fails(tiny, data, monkeypatch, capsys):
    """Should the mask ever lose it, the command says so and exits with 1."""
    whole = previews.encode

    def shortened(*arguments, **options):
        encoded = whole(*arguments, **options)
        mask = list(encoded.loss_mask)
        mask[len(mask) - 1 - mask[::-1].index(True)] = False
        return Encoded(encoded.input_ids, mask)

    monkeypatch.setattr(previews, "encode", shortened)
    assert run(str(data), "--model", tiny("gemma3").name, "--rows", "2") == 1
    assert "2 learned turns stop short" in capsys.readouterr().out


def test_a_template_that_never_ends_a_turn_fails(tiny, data):
    source = tiny("llama", "unclosed")
    with pytest.raises(UserError, match="never learn to stop"):
        run(str(data), "--model", source.name, "--chat-template", source.chat_template)


def test_errors_name_file_and_row(tiny, data):
    with pytest.raises(UserError, match="more than max_length=5") as error:
        run(str(data), "--model", tiny("llama").name, "--max-length", "5")
    assert (error.value.file, error.value.row) == (str(data), 1)
    with pytest.raises(SystemExit):
        run(str(data), "--model", "x", "--rows", "0")
