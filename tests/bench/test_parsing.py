"""`primum bench parsing pages` and `speed`."""

import json
import re

import pytest

from primum.bench.parsing.sameness import Divergence, summary


@pytest.mark.seconds
def test_every_way_is_timed_and_compared_with_generate(tmp_path, capsys):
    from primum.cli import main

    out = tmp_path / "pages.json"
    words = ["bench", "parsing", "pages", "docvlm-tiny", "--pages", "2", "--rounds", "1"]
    more = ["--characters", "40", "80", "--max-new-tokens", "60", "--drafts", "text", "noise"]
    more += ["--decoding", "page", "hierarchical", "--first", "3", "--peers"]
    assert main([*words, *more, "-o", str(out)]) == 0
    told = json.loads(out.read_text())
    ways = {(one["page"], one["way"]): one for one in told["readings"]}
    assert len(ways) == 2 * 8
    for page in ("seed 3", "seed 4"):
        plain = ways[page, "generate"]["tokens"]
        assert ways[page, "drafts off"]["forwards"] == len(plain) - 1
        apart = {one["way"]: one["margin"] for one in told["divergences"] if one["page"] == page}
        peers = ("prompt lookup (transformers)", "text, fixed window (paper)")
        for way in ("drafts off", "text", "noise", "text, hierarchical", *peers):
            assert ways[page, way]["tokens"] == plain or apart[way] < 1e-4
    assert "speed against" in capsys.readouterr().out


@pytest.mark.seconds
def test_half_precision_is_set_beside_what_plain_decoding_does_to_itself(tmp_path, capsys):
    from primum.cli import main

    out = tmp_path / "pages.json"
    words = ["bench", "parsing", "pages", "docvlm-tiny", "--pages", "2", "--rounds", "1"]
    more = ["--characters", "40", "80", "--max-new-tokens", "60", "--drafts", "text"]
    assert main([*words, *more, "--dtype", "bfloat16", "-o", str(out)]) == 0
    told, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert len(told["readings"]) == 2 * 4
    apart = {(one["page"], one["way"]) for one in told["divergences"]}
    by = {(one["page"], one["way"]): one["tokens"] for one in told["readings"]}
    assert apart == {key for key, tokens in by.items() if tokens != by[key[0], "generate"]}
    for way in ("drafts off", "text", "drafts off, 8 at once"):
        same = 2 - sum(one == way for _, one in apart)
        assert re.search(rf"{way} +{same}/2 pages as generate", printed)


def test_what_differs_is_summed_up():
    apart = [Divergence("a", "text", 7, 0.5, 0.2), Divergence("b", "text", 9, 0.1, 0.1)]
    first, second, *each = summary(apart, ["text", "noise"], 3)
    assert "1/3" in first and "token 8 (median)" in first and "10.00% edits" in first
    assert second.endswith("3/3 pages as generate") and len(each) == 2


def test_a_batch_of_nothing_is_an_error(capsys):
    from primum.cli import main

    assert main(["bench", "parsing", "speed", "--batch", "8", "0"]) != 0
    assert "--batch 8 32" in capsys.readouterr().err


@pytest.mark.slow
def test_rehearsals_follow_their_script(tmp_path):
    from primum.cli import main

    out = tmp_path / "speed.json"
    text = tmp_path / "text.txt"
    text.write_text("A page of text that is rehearsed, token by token, word by word. " * 4)
    arguments = ["bench", "parsing", "speed", "--text", str(text), "--tokens", "40"]
    assert main([*arguments, "--rounds", "1", "-o", str(out)]) == 0
    figures = json.loads(out.read_text())
    forwards = figures["forwards"]
    assert forwards["our loop, drafts off"] == 39
    assert forwards["our loop, drafts on"] < 20
    assert forwards["our loop, useless drafts"] <= 39
    made = ["bench", "parsing", "speed", "--synthetic", "0", "--tokens", "200"]
    assert main([*made, "--rounds", "1", "-o", str(out)]) == 0
    assert json.loads(out.read_text())["forwards"]["our loop, drafts on"] < 60


@pytest.mark.slow
def test_a_rehearsal_of_dots_sees_the_page_it_is_given(tmp_path, monkeypatch, capsys):
    from PIL import Image

    from primum.bench.parsing import speed
    from primum.cli import main
    from primum.parsing.pretrained import PretrainedVlm
    from primum.parsing.targets.tiny import make_tiny

    tiny = PretrainedVlm(str(make_tiny("dots_ocr", tmp_path / "dots")), dtype="float32").model()
    tiny.generation_config.eos_token_id = None
    monkeypatch.setattr(speed, "rehearsal_model", lambda *_: tiny)
    monkeypatch.setitem(speed.SIZES, "dots", {"vocab_size": tiny.config.vocab_size})
    Image.new("RGB", (300, 200), "white").save(tmp_path / "page.png")
    words = ["bench", "parsing", "speed", "--image", str(tmp_path / "page.png"), "--tokens", "40"]
    out = tmp_path / "speed.json"
    assert main([*words, "--rehearse", "dots", "--rounds", "1", "-o", str(out)]) == 0
    assert json.loads(out.read_text())["prompt"] == 77 + 320
    assert "300 x 200 pixels" in capsys.readouterr().out
    assert main(words) != 0  # the 10M model sees nothing
