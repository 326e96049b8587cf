"""A server writes the answers with the very weights that are being trained."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.alignment.talk import Letter, asked, trainer
from tests.loopback import Model

from primum.alignment.grpo import GRPOModule
from primum.alignment.prompts import PromptData
from primum.alignment.rollouts import LocalSampler
from primum.alignment.served_rollouts import ServedSampler
from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.judges.rewards.reward import Part, RewardSet
from primum.language.lora import Lora
from primum.language.source import Source


@contextmanager
def server(base: Path, *, failures: int = 0, token_ids: bool = True) -> Iterator[tuple[str, Any]]:
    """A model behind vLLM's API: completions, and adapters that come and go."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    writer, loaded, seen = Model(base, None, False), {}, {"failed": 0, "names": []}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            what = self.path.rsplit("/", 1)[-1]
            if what == "completions" and seen["failed"] < failures:
                seen["failed"] += 1
                return self.reply(503, "busy")
            if what == "load_lora_adapter":
                plain = AutoModelForCausalLM.from_pretrained(base)
                loaded[body["lora_name"]] = PeftModel.from_pretrained(plain, body["lora_path"])
                seen["names"].append(body["lora_name"])
                return self.reply(200, "Success")
            if what == "unload_lora_adapter":
                del loaded[body["lora_name"]]
                return self.reply(200, "Success")
            if body["model"] not in loaded:
                return self.reply(404, f"no model {body['model']}")
            choices = []
            with threading.RLock():
                for number in range(body["n"]):
                    writer.model = loaded[body["model"]].eval()
                    draw = body | {"seed": body["seed"] + number}
                    ids, _, reason = writer.generate(body["prompt"], draw)
                    choice = {"finish_reason": reason, "text": writer.tokenizer.decode(ids)}
                    choices.append(choice | ({"token_ids": ids} if token_ids else {}))
            self.reply(200, json.dumps({"choices": choices}))

        def reply(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", (loaded, seen)
    finally:
        http.shutdown()
        http.server_close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny") / "m", "llama")


def tuned(base: Path, sampler: Any, adapter: Lora | None = Lora(rank=4)) -> GRPOModule:  # noqa: B008
    torch.manual_seed(0)
    return GRPOModule(
        Source(str(base), dtype="float32"),
        partial(torch.optim.AdamW, lr=0.02),
        RewardSet({"letter": Part(Letter())}),
        adapter=adapter,
        group=2,
        sampler=sampler,
        warmup=0.0,
    )


@pytest.mark.seconds
def test_the_server_answers_as_the_model_in_training_would(base: Path, tmp_path: Path) -> None:
    """The likeliest answers after every step, by the server and by the model itself."""
    with server(base, failures=1) as (endpoint, (loaded, seen)):
        served = ServedSampler(endpoint, tmp_path, 6, temperature=0.0, concurrency=1)
        module = tuned(base, served)
        told: list[bool] = []
        said: set[str] = set()

        class Both(ServedSampler):
            def sample(self, *args: Any) -> Any:
                there = ServedSampler.sample(self, *args)
                here = LocalSampler(6, temperature=0.0).sample(*args)
                told.append([[one.ids for one in group] for group in there]
                            == [[one.ids for one in group] for group in here])  # fmt: skip
                said.add(str(there))
                return there

        module.sampler = Both(endpoint, tmp_path, 6, temperature=0.0, concurrency=1)
        module.rewards = RewardSet({"drift": Part(Alternating())})
        trainer(max_epochs=3).fit(module, datamodule=PromptData(module.source, asked))
        assert told == [True] * 3 and len(said) > 1
        assert seen["names"] == ["step-000000", "step-000001", "step-000002"]
        assert list(loaded) == ["step-000002"] and seen["failed"] == 1
        assert [one.name for one in tmp_path.iterdir()] == ["step-000002"]


class Alternating:
    """Rewards the first of two equal answers, so that weights move."""

    name = "alternating"

    def score(self, attempts: Any) -> list[float | None]:
        return [float(number % 2 == 0) * len(one.answer) for number, one in enumerate(attempts)]


@pytest.mark.seconds
def test_a_server_that_is_down_or_gives_no_token_ids_is_named(base: Path, tmp_path: Path) -> None:
    down = ServedSampler("http://127.0.0.1:9/v1", tmp_path, 4, retries=0)
    with pytest.raises(UserError, match=r"(?s)did not answer.*--enable-lora"):
        trainer(max_epochs=1).fit(
            tuned(base, down), datamodule=PromptData(Source(str(base)), asked)
        )
    with server(base, token_ids=False) as (endpoint, _):
        module = tuned(base, ServedSampler(endpoint, tmp_path, 4))
        with pytest.raises(UserError, match="does not return token ids"):
            trainer(max_epochs=1).fit(module, datamodule=PromptData(module.source, asked))
        whole = tuned(base, ServedSampler(endpoint, tmp_path, 4), adapter=None)
        with pytest.raises(UserError, match="Only an adapter"):
            trainer(max_epochs=1).fit(whole, datamodule=PromptData(whole.source, asked))
