"""A real server with the OpenAI protocol on a loopback port: a local model through transformers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Model:
    """Answers one request at a time."""

    def __init__(self, directory: Path, template: str | None, ignore_eos: bool) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.model = AutoModelForCausalLM.from_pretrained(directory).eval()
        if template is not None:
            self.tokenizer.chat_template = template
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        self.stops = set() if ignore_eos else {*ends, self.tokenizer.eos_token_id}
        self.lock = threading.Lock()

    def prompt_ids(self, body: dict[str, Any]) -> list[int]:
        if "messages" in body:
            text = self.tokenizer.apply_chat_template(
                body["messages"], tokenize=False, add_generation_prompt=True
            )
        else:
            text = body["prompt"]
        if isinstance(text, list):
            return text
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def generate(
        self, prompt: list[int], body: dict[str, Any]
    ) -> tuple[list[int], list[float], str]:
        """Token ids without the stop token, their log-probabilities, and why it ended."""
        torch = self.torch
        temperature = float(body.get("temperature", 1.0))
        dice = torch.Generator().manual_seed(int(body.get("seed") or 0))
        most = int(body.get("max_tokens") or body.get("max_completion_tokens") or 16)
        ids: list[int] = []
        logprobs: list[float] = []
        step, past = torch.tensor([prompt]), None
        with self.lock, torch.inference_mode():
            while len(ids) < most:
                out = self.model(input_ids=step, past_key_values=past, use_cache=True)
                past = out.past_key_values
                scores = out.logits[0, -1].float()
                if temperature:
                    chances = (scores / temperature).softmax(-1)
                    token = int(torch.multinomial(chances, 1, generator=dice))
                else:
                    token = int(scores.argmax())
                if token in self.stops:
                    return ids, logprobs, "stop"
                ids.append(token)
                logprobs.append(float(scores.log_softmax(-1)[token]))
                step = torch.tensor([[token]])
        return ids, logprobs, "length"


@contextmanager
def serve(
    model_directory: str | Path, *, template: str | None = None, ignore_eos: bool = False
) -> Iterator[str]:
    """Serve a plain Hugging Face directory; yields the base URL, such as `http://127.0.0.1:4711/v1`.

    Offers `/v1/models`, `/v1/chat/completions` and `/v1/completions` (text or token ids, with
    log-probabilities); the served model's name is the directory's.

    Args:
        template: Another chat template than the model's own (Jinja text).
        ignore_eos: Run on past the end of turn, up to `max_tokens`.
    """
    directory = Path(model_directory)
    model = Model(directory, template, ignore_eos)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self.reply(200, {"object": "list", "data": [{"id": directory.name}]})
            else:
                self.reply(404, {"error": {"message": f"no {self.path}"}})

        def do_POST(self) -> None:
            try:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path not in ("/v1/chat/completions", "/v1/completions"):
                    return self.reply(404, {"error": {"message": f"no {self.path}"}})
                if body["model"] != directory.name:
                    return self.reply(404, {"error": {"message": f"no model {body['model']}"}})
                prompt = model.prompt_ids(body)
                ids, logprobs, finish = model.generate(prompt, body)
            except Exception as error:
                return self.reply(400, {"error": {"message": repr(error)}})
            self.reply(200, self.content(body, prompt, ids, logprobs, finish))

        def content(
            self,
            body: dict[str, Any],
            prompt: list[int],
            ids: list[int],
            logprobs: list[float],
            finish: str,
        ) -> dict[str, Any]:
            text = model.tokenizer.decode(ids, skip_special_tokens=True)
            tokens = [model.tokenizer.decode([one]) for one in ids]
            choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
            if "messages" in body:
                choice["message"] = {"role": "assistant", "content": text}
                if body.get("logprobs"):
                    steps = zip(tokens, logprobs, strict=True)
                    choice["logprobs"] = {
                        "content": [{"token": token, "logprob": value} for token, value in steps]
                    }
            else:
                choice["text"] = text
                if body.get("logprobs") is not None:
                    choice["logprobs"] = {"tokens": tokens, "token_logprobs": logprobs}
            used = {"prompt_tokens": len(prompt), "completion_tokens": len(ids)}
            return {"model": directory.name, "choices": [choice], "usage": used}

        def reply(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
