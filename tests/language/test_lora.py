"""Adapters start as nothing, are the only thing that learns, and survive saving."""

import pytest
import torch
from peft import get_peft_model

from primum.errors import UserError
from primum.language.lora import Lora
from primum.language.source import Source

IDS = torch.tensor([[5, 9, 100, 42, 7, 300]])


@pytest.mark.parametrize("dora", [False, True])
def test_a_new_adapter_changes_nothing_and_alone_learns(tiny, dora):
    model = tiny("qwen3").model()
    with torch.no_grad():
        before = model(input_ids=IDS).logits
    adapted = Lora(rank=4, dora=dora).adapt(model)
    torch.testing.assert_close(adapted(input_ids=IDS).logits, before, atol=1e-5, rtol=1e-5)
    learning = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert learning and all("lora_" in name for name in learning)
    layers = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in learning}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_scale_is_alpha_over_rank(tiny):
    adapted = Lora(rank=4, alpha=12, targets=["q_proj"]).adapt(tiny("llama").model())
    layer = next(one for name, one in adapted.named_modules() if name.endswith("q_proj"))
    assert layer.scaling["default"] == 3.0


def test_adapters_stay_float32_over_a_bf16_base_unless_told(tiny):
    for float32, dtype in ((True, torch.float32), (False, torch.bfloat16)):
        adapted = Lora(rank=2).adapt(tiny("llama").model().bfloat16(), float32=float32)
        weights = [one for name, one in adapted.named_parameters() if "lora_" in name]
        assert {one.dtype for one in weights} == {dtype}


def test_float32_adapters_over_bf16_learn_as_pefts_own_do(tiny):
    """The same gradients as with PEFT's casting of activations, up to bf16's rounding."""
    torch.manual_seed(0)
    ours = Lora(rank=4).adapt(tiny("llama").model().bfloat16())
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.05)
    theirs = get_peft_model(
        tiny("llama").model().bfloat16(), ours.peft_config["default"], autocast_adapter_dtype=True
    )
    state = {name: one for name, one in ours.state_dict().items() if "lora_" in name}
    theirs.load_state_dict(state, strict=False)
    losses = [one(input_ids=IDS, labels=IDS).loss for one in (ours, theirs)]
    torch.testing.assert_close(*losses, rtol=5e-3, atol=0)
    for loss in losses:
        loss.backward()
    other = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        if "lora_" in name:
            assert weight.grad.dtype == torch.float32
            error = (weight.grad - other[name].grad).norm() / other[name].grad.norm()
            assert error < 0.05, name


def test_a_saved_adapter_loads_on_its_base(tiny, tmp_path):
    source = tiny("llama")
    adapted = Lora(rank=4).adapt(source.model())
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
        expected = adapted.eval()(input_ids=IDS).logits
    adapted.save_pretrained(tmp_path)
    again = Source(str(tmp_path), dtype="float32")
    with torch.no_grad():
        found = again.model()(input_ids=IDS).logits
        merged = again.model().merge_and_unload()(input_ids=IDS).logits
        base = source.model()(input_ids=IDS).logits
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    assert (found - base).abs().max() > 0.1
    assert again.tokenizer().get_vocab() == source.tokenizer().get_vocab()  # its base's
    hashes = again.fingerprint()
    assert "adapter_model.safetensors" in hashes
    assert hashes["base/model.safetensors"] == source.fingerprint()["model.safetensors"]


@pytest.mark.seconds
def test_an_adapter_whose_base_moved_says_so_and_takes_another(tiny, tmp_path):
    Lora(rank=2).adapt(tiny("llama").model()).save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    gone = str(tmp_path / "gone")
    file.write_text(file.read_text().replace(tiny("llama").name, gone))
    with pytest.raises(UserError, match="no longer at") as error:
        Source(str(tmp_path / "adapter")).model()
    assert error.value.file == file
    found = Source(str(tmp_path / "adapter"), dtype="float32", base=tiny("llama").name)
    assert found.model()(input_ids=IDS).logits.shape == (1, 6, found.model().config.vocab_size)


def test_layers_the_model_lacks_are_refused(tiny):
    with pytest.raises(UserError, match="No adapter could be put"):
        Lora(targets=["c_attn"]).adapt(tiny("llama").model())
    with pytest.raises(UserError, match="at least 1"):
        Lora(rank=0).adapt(tiny("llama").model())


def spread(model: torch.nn.Module) -> None:
    """Give the adapters weights that show."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.05)


def test_the_fused_layer_has_pefts_values_and_gradients(tiny):
    ours = Lora(rank=4, alpha=12).adapt(tiny("llama").model())
    spread(ours)
    theirs = get_peft_model(tiny("llama").model(), ours.peft_config["default"])
    spread(theirs)
    fused, plain = ({type(one).__name__ for one in model.modules()} for model in (ours, theirs))
    assert "FusedLinear" in fused and "FusedLinear" not in plain
    for model in (ours, theirs):
        model(input_ids=IDS, labels=IDS).loss.backward()
    learned = {name: one.grad for name, one in theirs.named_parameters() if one.requires_grad}
    for name, weight in ours.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight.grad, learned[name], rtol=1e-4, atol=1e-7)


def test_what_is_not_plain_goes_through_peft(tiny):
    model = tiny("llama").model()
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        adapted = Lora(rank=4).adapt(model)
        spread(adapted)
        after = adapted(input_ids=IDS).logits
        with adapted.disable_adapter():
            torch.testing.assert_close(adapted(input_ids=IDS).logits, before)
        adapted.merge_adapter()
        torch.testing.assert_close(adapted(input_ids=IDS).logits, after, rtol=1e-4, atol=1e-5)
        adapted.unmerge_adapter()
        adapted.add_adapter("other", adapted.peft_config["default"])
        adapted.set_adapter("other")
        torch.testing.assert_close(adapted(input_ids=IDS).logits, before, rtol=1e-4, atol=1e-5)
    dropping = Lora(rank=4, dropout=0.5).adapt(tiny("llama").model()).train()
    spread(dropping)
    one, other = (dropping(input_ids=IDS).logits for _ in range(2))
    assert not torch.equal(one, other)
