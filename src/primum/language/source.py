"""Where a language model comes from: the hub, a directory, a GGUF file or an installed package."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from primum.errors import UserError
from primum.extras import require
from primum.files import sha256
from primum.language.gguf import dequantised, package_file
from primum.language.precision import pick_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGE = "package:"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
FINGERPRINTED = (
    "*.safetensors", "config.json", "generation_config.json", "adapter_config.json", "*.jinja",
    "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.py",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A language model by name; nothing is read before it is asked for.

    Args:
        name: A hub id, a Hugging Face directory (of a whole model, or of a PEFT adapter, whose
            base is then loaded too), a `.gguf` file, or `package:NAME` for the GGUF file that
            ships inside an installed Python package.
        revision: Branch, tag or commit on the hub.
        dtype: `auto`, `float32`, `bfloat16` or `float16`; see `precision.pick_dtype`.
        attention: `sdpa`, `eager`, `flash_attention_2` ...; transformers' own choice if None.
        trust_remote_code: Run Python code that comes with the model.
        chat_template: A `.jinja` file used instead of the tokenizer's own template.
        base: Of an adapter directory, the model it belongs on, where that is no longer what its
            `adapter_config.json` says.
        quantise: Load the weights in 4 bits (`nf4`, as QLoRA does) or 8 (`int8`) through the extra
            `quantised`; they are then frozen, and only an adapter can be trained.
    """

    name: str
    revision: str | None = None
    dtype: str = "auto"
    attention: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    base: str | None = None
    quantise: Literal["nf4", "int8"] | None = None

    def locate(self) -> str:
        """What `from_pretrained` takes: a local directory, or the hub id.

        Raises:
            UserError: The file, package or directory is not there or not whole.
        """
        name = self.name
        if name.startswith(PACKAGE):
            return str(dequantised(package_file(name.removeprefix(PACKAGE))))
        path = Path(name).expanduser()
        if path.suffix == ".gguf":
            if not path.is_file():
                raise UserError("There is no such GGUF file", file=path)
            return str(dequantised(path))
        if path.is_dir():
            check_directory(path)
            return str(path)
        if path.is_file():
            raise UserError(
                "A model is a directory, a .gguf file or a hub id, not this file", file=path
            )
        if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
            raise UserError("There is no such model directory", file=path)
        return name

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, with the chat template given here or its own.

        Raises:
            UserError: It cannot be loaded; the message names the file or the hub id.
        """
        from transformers import AutoTokenizer

        where = self.locate()
        template = self._template_text()
        with explained(self.name, where):
            if _is_adapter(where) and not _has_tokenizer(Path(where)):
                return replace(self._base(where), chat_template=self.chat_template).tokenizer()
            tokenizer = AutoTokenizer.from_pretrained(where, **self._options(where))
        if template is not None:
            tokenizer.chat_template = template
        tokenizer.name_or_path = self.name  # what messages call it, not a folder in the cache
        return tokenizer

    def model(self) -> PreTrainedModel:
        """The causal language model in evaluation mode, on the CPU.

        Raises:
            UserError: It cannot be loaded; the message names the file or the hub id.
        """
        from transformers import AutoModelForCausalLM

        where = self.locate()
        if _is_adapter(where):
            from peft import PeftModel

            from primum.language.fused_lora import fuse
            from primum.language.lora import multiply_in_base_dtype

            model = self._base(where).model()
            with explained(self.name, where):
                adapted = PeftModel.from_pretrained(model, where)
            return fuse(multiply_in_base_dtype(adapted)).eval()  # type: ignore[return-value]
        options = self._options(where)
        if self.attention is not None:
            options["attn_implementation"] = self.attention
        dtype = pick_dtype(requested=self.dtype)
        if self.quantise is not None:
            options["quantization_config"] = _quantised(self.quantise, dtype)
        with explained(self.name, where):
            model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, **options)
        return model.eval()

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of each file that decides what the model says, by file name.

        For a GGUF file that is the file itself; for a hub id, the files of the snapshot in the
        local cache (which is filled first if need be); files of an adapter's base begin `base/`.
        """
        if self.name.startswith(PACKAGE) or self.name.endswith(".gguf"):
            package = self.name.startswith(PACKAGE)
            gguf = package_file(self.name.removeprefix(PACKAGE)) if package else Path(self.name)
            if not gguf.expanduser().is_file():
                raise UserError("There is no such GGUF file", file=gguf)
            hashes = {gguf.name: sha256(gguf.expanduser())}
        else:
            where = self.locate()
            folder = Path(where) if Path(where).is_dir() else self._snapshot(where)
            files = {file for pattern in FINGERPRINTED for file in folder.glob(pattern)}
            hashes = {file.name: sha256(file) for file in sorted(files) if file.is_file()}
            if _is_adapter(where):
                base = self._base(where).fingerprint()
                hashes |= {f"base/{file}": value for file, value in base.items()}
        if self.chat_template is not None:
            self._template_text()
            template = Path(self.chat_template).expanduser()
            hashes[template.name] = sha256(template)
        return hashes

    def _options(self, where: str) -> dict[str, Any]:
        options = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        if Path(where).is_dir():
            return options
        # Without a network, look in the cache at once instead of after half a minute of retries.
        return options if _hub_has_address() else {**options, "local_files_only": True}

    def _base(self, adapter: str) -> Source:
        file = Path(adapter) / "adapter_config.json"
        config = _read_json(file)
        name = self.base or config.get("base_model_name_or_path")
        if not name:
            raise UserError("This adapter does not say which model it belongs to", file=file)
        revision = None if self.base else config.get("revision")
        base = replace(self, name=str(name), revision=revision, chat_template=None, base=None)
        if Path(name).is_absolute() and not Path(name).exists():
            raise UserError(
                f"The model this adapter belongs to is no longer at {name}",
                file=file,
                remedy="name it with base=..., or correct base_model_name_or_path",
            )
        return base

    def _template_text(self) -> str | None:
        if self.chat_template is None:
            return None
        path = Path(self.chat_template).expanduser()
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError("There is no such chat template", file=path) from None
        except (UnicodeDecodeError, IsADirectoryError):
            raise UserError("A chat template is a Jinja text file in UTF-8", file=path) from None

    def _snapshot(self, name: str) -> Path:
        from huggingface_hub import snapshot_download

        with explained(self.name, name):
            return Path(
                snapshot_download(
                    name,
                    revision=self.revision,
                    allow_patterns=list(FINGERPRINTED),
                    local_files_only=not _hub_has_address(),
                )
            )


def _quantised(kind: str, dtype: Any) -> Any:
    """How bitsandbytes stores weights: 4-bit NormalFloat twice quantised, or LLM.int8()."""
    from transformers import BitsAndBytesConfig

    require("bitsandbytes", "quantised")
    if kind == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    raise UserError(f"Weights can be quantised to nf4 or int8, not `{kind}`")


def named_source(name: str) -> Source:
    """The model a user names on the command line: an entry of `conf/model`, or as in `Source`."""
    import yaml

    import primum

    file = primum.conf_dir() / "model" / f"{name}.yaml"
    if not name.isidentifier() or not file.is_file() or Path(name).exists():
        return Source(name)
    entry = yaml.safe_load(file.read_text(encoding="utf-8"))
    if entry["_target_"] != f"{Source.__module__}.Source":
        raise UserError(f"`{name}` is no language model", file=file)
    return Source(**{key: value for key, value in entry.items() if key != "_target_"})


def check_directory(path: Path) -> None:
    """Refuse a model directory that lacks a file or holds a broken one.

    Only headers and sizes are read, so it takes milliseconds for any size of model.

    Raises:
        UserError: It names the file that is missing or broken.
    """
    if (path / "adapter_config.json").is_file():
        _read_json(path / "adapter_config.json")
        needed = [path / "adapter_model.safetensors"]
    else:
        if not (path / "config.json").is_file():
            raise UserError(
                "This directory is not a Hugging Face model: it has no config.json",
                file=path,
                remedy="give the directory that holds config.json, or export the model to one",
            )
        _read_json(path / "config.json")
        if not _has_tokenizer(path):
            raise UserError(
                "This model directory has no tokenizer",
                file=path,
                remedy=f"copy the model's tokenizer files ({', '.join(TOKENIZER_FILES[:2])} ...) "
                "into it",
            )
        index = path / "model.safetensors.index.json"
        if index.is_file():
            needed = [path / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
        else:
            needed = [path / "model.safetensors"]
    for file in needed:
        if not file.is_file():
            pickled = any(path.glob("*.bin"))
            raise UserError(
                "The weights are missing" + (" as safetensors: pickles are not read" * pickled),
                file=file,
                remedy="convert them to safetensors" if pickled else "copy or download them again",
            )
        check_safetensors(file)


def check_safetensors(file: Path) -> None:
    """Refuse a safetensors file that is shorter or longer than its own header says."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header: Any = None
        if 8 + length <= size:
            try:
                header = json.loads(stream.read(length))
            except ValueError:
                header = None
    if not isinstance(header, dict):
        raise UserError(
            "This safetensors file is truncated or damaged: its header cannot be read",
            file=file,
            remedy="copy or download it again",
        )
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise UserError(
            f"This safetensors file is {'truncated' if size < expected else 'damaged'}: "
            f"it has {size} bytes and its header announces {expected}",
            file=file,
            remedy="copy or download it again",
        )


@contextmanager
def explained(name: str, where: str) -> Iterator[None]:
    """Tell what loading a model failed on in one sentence instead of a library's traceback."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from safetensors import SafetensorError

    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        causes = _chain(error)
        file = where if Path(where).is_dir() else None
        if "trust_remote_code" in str(error):
            raise UserError(
                f"The model `{name}` comes with Python code of its own, which is not run unasked",
                file=file,
                remedy="read that code, then pass model.trust_remote_code=true",
            ) from error
        if file is not None or not isinstance(error, OSError):
            raise UserError(
                f"The model `{name}` cannot be loaded: {_first_line(error)}", file=file
            ) from error
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            raise UserError(
                f"The model `{name}` is gated on the hub",
                remedy="accept its terms on its page, then `hf auth login` or set HF_TOKEN",
            ) from error
        if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
            raise UserError(
                f"There is no model `{name}` on the hub, nor a directory of that name here",
                remedy="check the spelling",
            ) from error
        offline = _offline()
        raise UserError(
            f"The model `{name}` is not in the local cache and "
            + ("HF_HUB_OFFLINE forbids downloading it" if offline else "the hub was not reached"),
            remedy=("unset HF_HUB_OFFLINE" if offline else "connect to the network")
            + ", set HF_ENDPOINT to a mirror, point HF_HOME to a filled cache, or give a local "
            f"directory instead of the hub id ({_first_line(error)})",
        ) from error


def _hub_has_address() -> bool:
    """False only if the hub's host name does not resolve and no proxy could resolve it for us."""
    from huggingface_hub.constants import ENDPOINT

    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True
    try:
        socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None)
    except OSError:
        return False
    return True


def _offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return bool(HF_HUB_OFFLINE) or bool(os.environ.get("TRANSFORMERS_OFFLINE"))


def _chain(error: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _is_adapter(where: str) -> bool:
    return (Path(where) / "adapter_config.json").is_file()


def _has_tokenizer(path: Path) -> bool:
    return any((path / name).is_file() for name in TOKENIZER_FILES)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"This file is not readable JSON: {error}", file=file) from None
    if not isinstance(content, dict):
        raise UserError("This file should hold one JSON object", file=file)
    return content
