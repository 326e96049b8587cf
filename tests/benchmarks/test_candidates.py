"""Checkpoint, endpoint, predictions or a module of one's own: each meets the same protocol."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from lightning import LightningModule
from tests.loopback import serve

from primum.benchmarks.candidates import Candidate, resolve_candidate
from primum.benchmarks.cases import Case
from primum.benchmarks.endpoint import Endpoint
from primum.benchmarks.predictions import Predictions
from primum.benchmarks.run import run_benchmark
from primum.benchmarks.subjects import Answer, Settings
from primum.errors import UserError

CASES = [Case(str(n), ({"role": "user", "content": f"Question {n}?"},)) for n in range(3)]


@pytest.mark.parametrize("given", [{}, {"checkpoint": "a", "predictions": "b"}])
def test_exactly_one_origin_is_taken(given: dict[str, str]) -> None:
    with pytest.raises(UserError, match="exactly one candidate"):
        resolve_candidate(**given)


def test_a_checkpoint_answers_and_scores(candidate: Candidate) -> None:
    answers = candidate.answer(CASES, Settings(max_new_tokens=5, batch_size=2))
    assert len(answers) == 3 and all(answer.finish in ("stop", "length") for answer in answers)
    referenced = [Case("r", CASES[0].messages, reference="Rest well.")]
    (likelihood,) = candidate.subject.score(referenced)
    assert likelihood.sum_logprob < 0 < likelihood.num_tokens


def test_a_module_of_ones_own_needs_only_answer() -> None:
    class Echo(LightningModule):
        def answer(self, cases: list[Case], settings: Settings) -> list[str]:
            return [case.prompt.upper() for case in cases]

    echo = Candidate("echo", "module", "f", Echo())
    assert echo.answer(CASES, Settings())[1] == Answer("QUESTION 1?")
    with pytest.raises(UserError, match="no method answer"):
        Candidate("mute", "module", "f", LightningModule()).answer(CASES, Settings())


# predictions


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_predictions_are_found_by_id_or_prompt(tmp_path: Path, suffix: str) -> None:
    import pandas

    table = pandas.DataFrame({"id": [c.id for c in CASES], "response": ["x", "y", "z"]})
    named = tmp_path / f"by_id{suffix}"
    prompts = tmp_path / f"by_prompt{suffix}"
    other = pandas.DataFrame({"prompt": [c.prompt for c in CASES], "answer": ["x", "y", "z"]})
    for frame, path in ((table, named), (other, prompts)):
        if suffix == ".jsonl":
            frame.to_json(path, orient="records", lines=True)
        elif suffix == ".json":
            frame.to_json(path, orient="records")
        elif suffix == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)
        made = Predictions.read([path])
        assert [a.text for a in made.answer(CASES, Settings())] == ["x", "y", "z"]


def test_missing_predictions_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    path.write_text(json.dumps({"0": "x"}))
    with pytest.raises(UserError, match=r"no answer for 2 of 3 cases: 1, 2"):
        Predictions.read([path]).check(CASES)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.jsonl", '{"id": 1, "answer": "x"}\n{"id": 1, "answer": "y"}\n', "two answers"),
        ("a.jsonl", '{"id": 1, "said": "x"}\n', "no answer; its columns are id, said"),
        ("a.jsonl", '{"answer": "x"}\n', "no case id or prompt"),
        ("a.jsonl", '{"id": 1, "answer": "x"}\n{oops\n', "not JSON"),
        ("a.jsonl", "[1]\n", "named columns, not a list"),
        ("a.jsonl", "", "no rows"),
        ("a.csv", "id,answer\n", "no rows"),
        ("a.parquet", "no", "cannot be read"),
        ("a.json", "3", "one list of rows, not a number"),
        ("a.xlsx", "", "Data files end in"),
    ],
)
def test_bad_predictions_are_one_error(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=problem) as caught:
        resolve_candidate(predictions=str(tmp_path / name))
    assert name in str(caught.value)


# endpoint


@contextmanager
def server(reply: Callable[[int], tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """Answers POST number n with `reply(n)`; lists one model."""
    count = iter(range(10_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(200, {"data": [{"id": "m"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send(*reply(next(count)))

        def send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1"
    finally:
        running.shutdown()
        running.server_close()


GOOD = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}


@pytest.mark.seconds
def test_a_served_model_answers_as_it_does_here(tiny: Path, candidate: Candidate) -> None:
    settings = Settings(max_new_tokens=6, batch_size=1)
    with serve(tiny) as url:
        served = resolve_candidate(endpoint=url)
        answers = served.answer(CASES, settings)
    here = candidate.answer(CASES, settings)
    assert [one.text for one in answers] == [one.text for one in here]
    assert [one.finish for one in answers] == [one.finish for one in here]
    assert not served.can_score


@pytest.mark.seconds
def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with server(lambda n: (503, {}) if n % 2 == 0 else (200, GOOD)) as url:
        answers = Endpoint(url, concurrency=1).answer(CASES, Settings())
    assert [one.text for one in answers] == ["fine"] * 3


@pytest.mark.seconds
def test_a_dead_endpoint_is_one_error() -> None:
    with pytest.raises(UserError, match=r"did not answer in 2 tries.*refused") as caught:
        Endpoint("http://127.0.0.1:9/v1", model="m", retries=1).answer(CASES, Settings())
    assert "endpoint=URL" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (401, {"error": "key"}, "OPENAI_API_KEY"),
        (400, {"error": "context too long"}, "refuses the request.*context too long"),
        (200, {"unexpected": 1}, "does not answer like a chat completions server"),
    ],
)
@pytest.mark.seconds
def test_refusals_of_the_server_are_passed_on(
    status: int, body: dict[str, Any], problem: str
) -> None:
    with server(lambda n: (status, body)) as url, pytest.raises(UserError, match=f"(?s){problem}"):
        Endpoint(url).answer(CASES, Settings())


@pytest.mark.seconds
def test_an_endpoint_sits_the_whole_benchmark(tiny: Path, benchmark: Any, tmp_path: Path) -> None:
    with serve(tiny) as url:
        done = run_benchmark(
            benchmark(), resolve_candidate(endpoint=url), output=tmp_path, quiet=True
        )
    assert done.scores["refused_unsafe"].n == 8
    assert "gives no likelihoods" in done.scores["perplexity_benign"].protocol
