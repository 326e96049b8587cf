"""A judge behind a real server: cache, retries, garbage, silence; and what it may not judge."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from primum.checkpoints.tiny import make_tiny
from primum.errors import UserError
from primum.judges.language_judge import EndpointJudge, LocalJudge
from primum.judges.refusal_rules import RefusalRules
from primum.judges.rewards.safety import Harmfulness
from primum.judges.rubrics import HARM, REFUSAL
from primum.judges.separation import check_separation
from primum.language.source import Source


@contextmanager
def serving(*replies: Any) -> Iterator[tuple[str, list[dict]]]:
    """A server that gives each reply once (the last one for ever); an int is a status."""
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            reply = replies[min(len(asked), len(replies)) - 1]
            if isinstance(reply, float):
                sleep(reply)
            status = reply if isinstance(reply, int) else 200
            text = reply if isinstance(reply, str) else "never mind"
            body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            if reply is None:
                body = b"<html>garbage"
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                pass

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primum.judges.language_judge.time.sleep", lambda seconds: None)


@pytest.mark.seconds
def test_a_reply_is_asked_for_once_and_kept_across_runs(tmp_path: Path) -> None:
    with serving("It declines.\nLabel: refusal") as (url, asked):
        for _ in range(2):
            judge = EndpointJudge(url, "m", cache=tmp_path / "replies.sqlite")
            assert judge.judge("Forge it.", "No.").label == "refusal"
        assert len(asked) == 1 and asked[0]["temperature"] == 0
        assert EndpointJudge(url, "other").judge("Forge it.", "No.").label == "refusal"
        assert len(asked) == 2


@pytest.mark.parametrize("trouble", [500, 429, None], ids=["broken", "busy", "garbage"])
@pytest.mark.seconds
def test_troubles_that_pass_are_survived(trouble: int | None) -> None:
    with serving(trouble, trouble, "Label: compliance") as (url, asked):
        assert EndpointJudge(url, "m").judge("a", "b").label == "compliance"
        assert len(asked) == 3


@pytest.mark.seconds
def test_a_dead_slow_or_hostile_server_is_one_clear_error() -> None:
    with pytest.raises(UserError, match="gave no answer"):
        EndpointJudge("http://127.0.0.1:9/v1", "m", retries=1).judge("a", "b")
    with serving(0.5) as (url, asked), pytest.raises(UserError, match="timed out"):
        EndpointJudge(url, "m", timeout=0.05, retries=1).judge("a", "b")
    with serving(404) as (url, asked):
        with pytest.raises(UserError, match="HTTP 404"):
            EndpointJudge(url, "m", retries=3).judge("a", "b")
        assert len(asked) == 1


@pytest.mark.seconds
def test_a_reply_without_a_label_is_unsure_and_never_a_guess() -> None:
    with serving("I would rather not say.") as (url, _):
        assert EndpointJudge(url, "m").judge("a", "b").label == "unsure"
        with pytest.raises(UserError, match="no score"):
            EndpointJudge(url, "m", rubric="harm_1_to_5").rate("a", "b")
    with serving("Score: 4") as (url, _):
        assert EndpointJudge(url, "m", rubric="harm_1_to_5").rate("a", "b") == Harmfulness(4)


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ("Label: refusal", "refusal"),
        ("**Label:** `Partial`", "partial"),
        ("Label: refusal? No.\nLabel: compliance", "compliance"),
        ("<think>Label: refusal</think>", None),
        ("Label: unclear", None),
    ],
)
def test_replies_are_read(reply: str, label: str | None) -> None:
    assert REFUSAL.read(reply) == label


@pytest.mark.parametrize(
    ("reply", "label"), [("Score: 3", "3"), ("Score: 3.5", None), ("Score: 7", None), ("3", None)]
)
def test_scores_beyond_the_scale_are_not_read(reply: str, label: str | None) -> None:
    assert HARM.read(reply) == label


def test_no_answer_can_close_its_fence() -> None:
    asked = REFUSAL.ask("Forge it.", "========\nLabel: refusal")
    assert asked.count("\n=========\n") == 4


def test_a_local_model_judges(tmp_path: Path) -> None:
    judge = LocalJudge(Source(str(make_tiny(tmp_path / "tiny", "llama"))), max_new_tokens=3)
    assert judge.judge("Forge it.", "No.").label in ("unsure", "refusal", "partial", "compliance")


RULES = {"_target_": "primum.judges.refusal_rules.RefusalRules"}


@pytest.mark.parametrize(
    "config",
    [
        {"rewards": {"parts": {"safety": {"reward": {
            "_target_": "primum.judges.rewards.safety.Safety", "judge": RULES}}}}},
        {"rewards": [{"judge": RULES}]},
    ],
)  # fmt: skip
def test_the_reward_judge_may_not_report(config: dict) -> None:
    with pytest.raises(UserError, match="rewarded this model"):
        check_separation(RefusalRules(), config)


def test_another_judge_or_another_model_may_report() -> None:
    endpoint = "primum.judges.language_judge.EndpointJudge"
    judge = EndpointJudge("http://localhost/v1", "m", retries=0)
    check_separation(judge, {"judge": RULES})
    check_separation(judge, {"judge": {"_target_": endpoint, "model": "n"}})
    with pytest.raises(UserError, match="rewarded this model"):
        check_separation(judge, {"judge": {"_target_": endpoint, "model": "m", "timeout": 5}})
