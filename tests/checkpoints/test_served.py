"""A server is asked the golden prompts: another template, end of turn or weights show."""

import argparse
import json
import shutil

import pytest
import torch
from tests.loopback import serve

from primum.checkpoints import commands
from primum.checkpoints.golden import Golden, read_golden, record, write_golden
from primum.checkpoints.loading import load
from primum.checkpoints.merge import export
from primum.checkpoints.resolve import resolve
from primum.checkpoints.served import Server, check_served
from primum.errors import UserError


@pytest.fixture(scope="module")
def exported(adapter_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("served") / "model"
    export(resolve(adapter_run), out, merge=True)
    return out


@pytest.fixture(scope="module")
def golden(exported) -> Golden:
    return read_golden(exported / "golden.json")


def found(verdict):
    return {check.name: check.passed for check in verdict.checks}


@pytest.mark.seconds
def test_the_model_itself_passes(exported, golden):
    with serve(exported) as url:
        verdict = check_served(url, golden)
    assert verdict.same, verdict
    assert found(verdict) == {"weights": True, "chat template": True, "end of turn": True}


@pytest.mark.seconds
def test_rounding_to_bf16_is_not_another_model(adapter_run, golden, tmp_path):
    rounded, _ = export(resolve(adapter_run), tmp_path / "bf16", merge=True, dtype="bfloat16")
    with serve(rounded) as url:
        assert check_served(url, golden).same


@pytest.mark.seconds
def test_an_altered_template_is_caught(exported, golden):
    template = (exported / "chat_template.jinja").read_text()
    with serve(exported, template=template.replace("<|im_start|>' +", "<|im_start|> ' +")) as url:
        verdict = check_served(url, golden)
    assert not verdict.same
    assert found(verdict)["weights"] is True
    assert found(verdict)["chat template"] is False


@pytest.mark.seconds
def test_a_template_altered_by_one_token_of_equal_length_is_caught(exported, golden):
    template = (exported / "chat_template.jinja").read_text()
    altered = template.replace("assistant\\n' }}", "assistant\\t' }}")
    assert altered != template
    with serve(exported, template=altered) as url:
        verdict = check_served(url, golden)
    assert found(verdict)["weights"] is True
    assert found(verdict)["chat template"] is False


@pytest.mark.seconds
def test_a_lost_end_of_turn_is_caught(exported, golden):
    with serve(exported, ignore_eos=True) as url:
        verdict = check_served(url, golden)
    assert not verdict.same
    assert found(verdict) == {"weights": True, "chat template": True, "end of turn": False}


@pytest.mark.seconds
def test_a_generation_config_without_the_end_of_turn_is_caught(exported, golden, tmp_path):
    """The commonest way to lose it: the base model's configuration files."""
    copy = shutil.copytree(exported, tmp_path / "copy")
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        text = (copy / name).read_text()
        (copy / name).write_text(text.replace("<|im_end|>", "<|endoftext|>"))
    content = json.loads((copy / "generation_config.json").read_text())
    content["eos_token_id"] = content["pad_token_id"]
    (copy / "generation_config.json").write_text(json.dumps(content))
    with serve(copy) as url:
        assert found(check_served(url, golden))["end of turn"] is False


@pytest.mark.seconds
def test_the_base_model_is_not_the_adapter(adapter_run, golden):
    with serve(adapter_run.parent / "base") as url:
        verdict = check_served(url, golden)
    assert not verdict.same
    assert found(verdict)["weights"] is False


@pytest.mark.seconds
def test_slightly_other_weights_are_caught(exported, golden, tmp_path):
    """A fifth of their spread; what moves log-probabilities no more than bf16 does stays unseen."""
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(exported, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    noise = torch.Generator().manual_seed(0)
    for value in weights.values():
        value += 0.2 * value.std() * torch.randn(value.shape, generator=noise)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with serve(copy) as url:
        assert found(check_served(url, golden))["weights"] is False


@pytest.mark.seconds
def test_without_completions_chats_are_compared(exported, golden, monkeypatch):
    monkeypatch.setattr(Server, "complete", lambda *_: None)
    with serve(exported) as url:
        assert check_served(url, golden).same
    with serve(exported, ignore_eos=True) as url:
        assert found(check_served(url, golden))["end of turn"] is False


@pytest.mark.seconds
def test_without_log_probabilities_texts_are_compared(exported, golden, monkeypatch):
    ask = Server._ask
    monkeypatch.setattr(Server, "_ask", lambda self, path, body, wish: ask(self, path, body, {}))
    with serve(exported) as url:
        verdict = check_served(url, golden)
        assert verdict.same
        assert "tells no log-probabilities" in verdict.checks[0].detail


@pytest.mark.seconds
def test_an_end_of_turn_that_never_came_is_called_untested(exported):
    model, tokenizer = load(resolve(exported))
    short = record(model, tokenizer, name="short", max_new_tokens=1)
    with serve(exported) as url:
        assert found(check_served(url, short))["end of turn"] is None


def test_a_server_that_cannot_be_asked_is_one_clear_error(exported, golden):
    with serve(exported) as url, pytest.raises(UserError, match="another"):
        check_served(url, golden, model="another")
    with pytest.raises(UserError, match="cannot be asked"):
        check_served(url, golden)  # it is gone
    with pytest.raises(UserError, match="no address"):
        check_served("localhost:8000", golden)


def test_malformed_golden_answers_are_refused(golden, tmp_path):
    path = write_golden(golden, tmp_path)
    assert read_golden(path) == golden
    content = json.loads(path.read_text())
    for change in ({"schema_version": 99}, {"schema_version": None}, {"answers": [{}]}, {"x": 1}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError) as caught:
            read_golden(path)
        assert caught.value.file == path


def test_the_golden_file_of_version_1_loads():
    from pathlib import Path

    golden = read_golden(Path(__file__).parent / "golden" / "golden_v1.json")
    assert golden.answers[0].text == "42"
    assert golden.answers[0].finish == "stop"


@pytest.mark.parametrize("given", ["run", "golden"])
@pytest.mark.seconds
def test_the_command_says_it_and_exits_so(given, adapter_run, exported, capsys):
    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers())
    which = {
        "run": ["--checkpoint", str(adapter_run)],
        "golden": ["--golden", str(exported / "golden.json")],
    }[given]
    with serve(exported) as url:
        arguments = parser.parse_args(["checkpoints", "check-served", url, *which])
        assert arguments.run(arguments) == 0
    assert "is alignment/tiny" in " ".join(capsys.readouterr().out.split())
    with serve(exported, ignore_eos=True) as url:
        arguments = parser.parse_args(["checkpoints", "check-served", url, *which])
        assert arguments.run(arguments) == 1
    assert "runs on" in " ".join(capsys.readouterr().out.split())
