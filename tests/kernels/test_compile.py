"""Every kernel compiles ahead of time for A100 and H100 and fits their shared memory.

Types and unsupported operations show up without a GPU; speed and numbers do not.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__)
ROOT = HERE.parents[2]
SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes a block may use
# types of the arguments of each kernel, in order; numbers are compile-time constants. A kernel
# with branches at compile time stands here more than once.
KERNELS = {
    "components.best_kernel": "*fp32 *i32 *i32 *i64 i32 i32 i32 128",
    "components.hook_kernel": "*fp32 *i32 *i32 *i64 *i32 i32 i32 i32 True 128",
    "components.flatten_kernel": "*i32 *i32 i32 128",
    "similarity.cosine_kernel": "*fp32 *i32 *i32 *i32 *fp32 *fp32 *i32 *i32 *i32 *i32 i32 i32 i32"
    " fp32 fp32 True False False 32 64",
    "similarity.cosine_kernel balanced": "*fp32 *i32 *i32 *i32 *fp32 *fp32 *i32 *i32 *i32 *i32 i32"
    " i32 i32 fp32 fp32 False True True 32 64",
    "similarity.gap_kernel": "*fp32 *i32 *i32 *i32 *i32 *i32 *{half} i32 i32 i32 32 64",
    "similarity.votes_kernel": "*{half} *{half} *i32 *fp32 i32 i32 i32 {dot} 8 32 64 64",
    "similarity.decide_kernel": "*fp32 *fp32 *i32 *i32 *fp32 *i32 i32 i32 fp32 fp32 fp32 False 8"
    " 32",
    "segments.add_kernel": "*fp32 *i32 *i32 i32 i32 16 64",
    "segments.ordered_kernel": "*fp32 *i32 *i32 *i64 *i64 i32 i32 64",
    "segments.collect_kernel": "*i32 *i32 *i32 i32 128",
    "segments.unit_kernel": "*fp32 *i32 *i32 *fp32 i32 i32 128",
    "vote.vote_kernel": "*fp32 *i32 *{half} *i32 *i32 *i32 *fp32 i32 i32 fp32 False True {dot} 16"
    " {keys} 1024",
    "semantic.pairs_kernel": "*fp32 *fp32 *i32 *i32 *fp32 i32 i32 i32 fp32 fp32 fp32 fp32 True"
    " False False 16 32",
    "semantic.pairs_kernel balanced": "*fp32 *fp32 *i32 *i32 *fp32 i32 i32 i32 fp32 fp32 fp32 fp32"
    " False True True 16 32",
}


def compile_all() -> None:
    """Runs in a process without TRITON_INTERPRET; prints one JSON line."""
    import importlib

    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from primum_kernels.vote import keys_for

    used = {}
    for half, dtype, dot in (("bf16", torch.bfloat16, "tf32"), ("fp32", torch.float32, "ieee")):
        for name, types in KERNELS.items():
            if half == "fp32" and "{half}" not in types:
                continue
            module, kernel = name.split()[0].split(".")
            function = getattr(importlib.import_module(f"primum_kernels.{module}"), kernel)
            words = types.format(half=half, dot=dot, keys=keys_for(dtype, 1024)).split()
            signature, constants = {}, {}
            for argument, word in zip(function.arg_names, words, strict=True):
                if word.lstrip("*")[0] in "ifb" and word not in ("ieee",):
                    signature[argument] = word
                else:
                    signature[argument] = "constexpr"
                    value = {"True": True, "False": False}.get(word, word)
                    constants[argument] = int(word) if word.isdigit() else value
            for capability in SHARED:
                options = {"enable_fp_fusion": False}
                if kernel == "vote_kernel":
                    options |= {"num_warps": 8, "num_stages": 1}
                source = ASTSource(function, signature, constants)
                target = GPUTarget("cuda", capability, 32)
                made = triton.compile(source, target=target, options=options)
                used[f"{name} {half} sm_{capability}"] = made.metadata.shared
    print(json.dumps({"triton": triton.__version__, "shared": used}))


def compiled(python: str, cache: Path) -> dict:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {
        "TRITON_CACHE_DIR": str(cache),
        "PYTHONPATH": f"{ROOT / 'kernels'}{os.pathsep}{ROOT}",
    }
    child = subprocess.run(
        [python, str(HERE)], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert child.returncode == 0, child.stderr[-3000:]
    return json.loads(child.stdout.splitlines()[-1])


def check(result: dict) -> None:
    assert len(result["shared"]) == 2 * (len(KERNELS) + 3)
    for name, shared in result["shared"].items():
        assert shared <= SHARED[int(name.rsplit("_", 1)[1])], name


@pytest.mark.process
@pytest.mark.slow
def test_kernels_compile_ahead_of_time(tmp_path: Path) -> None:
    check(compiled(sys.executable, tmp_path))


@pytest.mark.process
@pytest.mark.slow
def test_kernels_compile_with_an_older_triton(tmp_path: Path) -> None:
    """Triton 3.6 in an environment of its own; needs a package index to install it from."""
    uv = [sys.executable, "-m", "uv"]
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        [*uv, "venv", "-q", "--python", sys.executable, str(tmp_path / "venv")], check=True
    )
    target = next((tmp_path / "venv/lib").iterdir()) / "site-packages"
    subprocess.run(
        [*uv, "pip", "install", "-q", "--python", str(python), "--no-deps", "triton==3.6.0"],
        check=True,
    )
    # everything else, torch included, comes from here; the older triton lies in front of it
    shutil.copy(HERE, tmp_path / "compile.py")
    import torch

    packages = Path(torch.__file__).parents[1]
    (target / "rest.pth").write_text(f"{packages}\n")
    result = compiled(str(python), tmp_path / "cache")
    assert result["triton"].startswith("3.6")
    check(result)


if __name__ == "__main__":
    compile_all()
