"""The dtype is what was asked for, else what this device does clearly faster."""

import json

import pytest
import torch

from primum.errors import UserError
from primum.language import precision


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path))
    return tmp_path


def test_a_named_dtype_is_taken():
    assert precision.pick_dtype(requested="float32") == torch.float32
    assert precision.pick_dtype("cpu", "bf16") == torch.bfloat16
    with pytest.raises(UserError, match="no dtype `int4`"):
        precision.pick_dtype(requested="int4")


@pytest.mark.parametrize(("speedup", "dtype"), [(3.0, torch.bfloat16), (1.1, torch.float32)])
def test_auto_takes_bf16_only_where_it_is_clearly_faster(monkeypatch, own_cache, speedup, dtype):
    calls = []
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(precision, "time_bf16_against_fp32", lambda: calls.append(1) or speedup)
    assert precision.pick_dtype("cpu") == dtype
    assert precision.pick_dtype("cpu") == dtype and len(calls) == 1  # kept: all ranks agree
    (file,) = own_cache.glob("precision-*.json")
    assert json.loads(file.read_text()) == {"speedup": speedup}
    file.write_text("damaged")
    assert precision.pick_dtype("cpu") == dtype and len(calls) == 2


def test_a_processor_without_bf16_is_not_even_timed(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    monkeypatch.setattr(precision, "time_bf16_against_fp32", lambda: pytest.fail("timed"))
    assert precision.pick_dtype("cpu") == torch.float32


@pytest.mark.seconds
def test_the_timing_is_real_and_short(monkeypatch):
    assert 0.01 < precision.time_bf16_against_fp32() < 100


def test_other_devices_compute_in_fp32():
    assert precision.pick_dtype("mps") == torch.float32
