"""Answers written by a server (vLLM, or whoever speaks its API), kept at the policy's weights.

Before each optimizer step the adapter in training is saved to a folder that the server can read and
loaded there under a new name; the answers of the step are asked of that name. vLLM allows it when
it is started with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.alignment.rollouts import Answer, decoded
from primum.errors import UserError
from primum.files import atomic_folder
from primum.language.generate import stop_ids
from primum.training.strategies import shards_parameters

if TYPE_CHECKING:
    from torch import Tensor

    from primum.alignment.prompts import Prompt


@dataclass
class ServedSampler:
    """A server that writes the answers.

    Args:
        endpoint: Its address, such as http://localhost:8000/v1.
        folder: Where adapters are left for it; both sides must see it under this path.
        max_new_tokens: Longest answer.
        temperature: Logits are divided by it.
        concurrency: Prompts asked at the same time.
        timeout: Seconds an answer may take.
        retries: How often a failed request is repeated, each time after twice as long.
    """

    endpoint: str
    folder: str | Path
    max_new_tokens: int = 256
    temperature: float = 1.0
    concurrency: int = 16
    timeout: float = 600.0
    retries: int = 3
    serving: str | None = field(default=None, init=False)

    def sample(
        self, module: Any, prompts: Sequence[Prompt], group: int, seed: int
    ) -> list[list[Answer]]:
        """`group` answers to each prompt, by the policy as it is now.

        Raises:
            UserError: There is no adapter, or the server is down or answers something else.
        """
        self.bring_up_to_date(module)
        stops = set(stop_ids(module.model, module.tokenizer))
        with ThreadPoolExecutor(self.concurrency) as pool:
            asked = [pool.submit(self.ask, prompt, group, seed, stops) for prompt in prompts]
            said = [one.result() for one in asked]
        return [[decoded(module.tokenizer, ids, stops) for ids in choices] for choices in said]

    def bring_up_to_date(self, module: Any) -> None:
        """Give the server the adapter of this step; every rank calls it."""
        if module.adapter is None:
            raise UserError(
                "Only an adapter can be handed to a server while it is trained",
                remedy="train with module.adapter, or sample locally (LocalSampler)",
            )
        strategy = module.trainer.strategy
        name = f"step-{module.global_step:06d}"
        state = adapter_state(module)
        if module.trainer.is_global_zero:
            path = Path(self.folder).expanduser().absolute() / name
            with atomic_folder(path) as partial:
                module.model.save_pretrained(partial, state_dict=state)
                for file in partial.rglob("*"):
                    file.chmod(0o755 if file.is_dir() else 0o644)
            self.post("load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
            if self.serving not in (None, name):
                self.post("unload_lora_adapter", {"lora_name": self.serving})
                shutil.rmtree(path.parent / str(self.serving), ignore_errors=True)
        strategy.barrier("the server has the adapter")
        self.serving = name

    def ask(self, prompt: Prompt, group: int, seed: int, stops: set[int]) -> list[list[int]]:
        """Token ids of each answer to a prompt."""
        reply = self.post(
            "completions",
            {
                "model": self.serving,
                "prompt": list(prompt.input_ids),
                "n": group,
                "max_tokens": self.max_new_tokens,
                "temperature": self.temperature,
                "seed": (seed * 1_000_003 + prompt.number) % 2**31,
                "return_token_ids": True,
                "skip_special_tokens": False,
            },
        )
        choices = reply.get("choices") if isinstance(reply, dict) else None
        if not isinstance(choices, list) or len(choices) != group:
            raise UserError(
                f"The server at {self.endpoint} did not give {group} answers to `{prompt.id}`"
            )
        return [self.ids(choice, stops) for choice in choices]

    def ids(self, choice: Any, stops: set[int]) -> list[int]:
        """An answer's token ids, ended by a stop token where the model stopped."""
        ids = choice.get("token_ids") if isinstance(choice, dict) else None
        if not isinstance(ids, list) or not all(isinstance(one, int) for one in ids):
            raise UserError(
                f"The server at {self.endpoint} does not return token ids",
                remedy="use vLLM 0.10.2 or later: text alone cannot be learned from exactly",
            )
        if choice.get("finish_reason") == "stop" and (not ids or ids[-1] not in stops):
            ids = [*ids, min(stops)]
        return ids or [min(stops)]

    def post(self, what: str, content: dict[str, Any]) -> Any:
        """Send one request; the reply's JSON, or its text.

        Raises:
            UserError: The server cannot be reached, refuses, or sends no JSON, also when asked
                again.
        """
        address = f"{self.endpoint.rstrip('/')}/{what}"
        problem = ""
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(2.0 ** (attempt - 1) / 2)
            request = urllib.request.Request(
                address, json.dumps(content).encode(), {"Content-Type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=self.timeout) as reply:
                    text = reply.read().decode()
                return json.loads(text) if what == "completions" else text
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}: {error.read().decode(errors='replace')[:200]}"
                if error.code < 500 and error.code != 429:
                    break
            except (OSError, ValueError) as error:
                problem = str(getattr(error, "reason", error))
        raise UserError(
            f"The server at {address} did not answer ({problem})",
            remedy="start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve BASE "
            "--enable-lora, or sample locally (LocalSampler)",
        )


def adapter_state(module: Any) -> dict[str, Tensor]:
    """The trained weights of a module's model, whole, on the CPU; every rank calls it."""
    trained = {
        name: weight for name, weight in module.model.named_parameters() if weight.requires_grad
    }
    whole: Any = nullcontext()
    if shards_parameters(module.trainer):
        import deepspeed

        whole = deepspeed.zero.GatheredParameters(list(trained.values()))
    with whole:
        return {name: weight.detach().cpu().clone() for name, weight in trained.items()}
