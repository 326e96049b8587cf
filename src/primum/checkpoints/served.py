"""Is the server the model that was evaluated? It is asked the golden prompts again."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from primum.checkpoints.golden import Golden, GoldenAnswer
from primum.errors import UserError

# Served in bf16, a 135M model recorded in float32 was off by 0.02 on average and 0.11 at most; its
# base, by 0.9 and 1.7.
WORST, MEAN = 0.25, 0.1  # nats
BEYOND = 16  # tokens asked for past a golden answer, to see whether the server stops
BUSY = (408, 425, 429, 502, 503, 504)  # answers of a server, or of what stands before it
FEWEST = 8  # compared tokens below which nothing is said about the weights


@dataclass(frozen=True)
class Check:
    """One thing looked at; `passed` is None where it could not be seen."""

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What was found, thing by thing."""

    url: str
    model: str
    checks: tuple[Check, ...]

    @property
    def same(self) -> bool:
        """Nothing differs, and the weights could be compared."""
        return all(check.passed is not False for check in self.checks) and any(
            check.name == "weights" and check.passed for check in self.checks
        )


@dataclass(frozen=True)
class Reply:
    """A server's answer, whichever protocol it came by."""

    text: str
    finish: str | None
    prompt_tokens: int | None
    tokens: tuple[str, ...]
    logprobs: tuple[float, ...]


class Server:
    """A server with the OpenAI protocol, asked greedily."""

    def __init__(
        self, url: str, model: str | None = None, api_key: str | None = None, timeout: float = 120
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"`{url}` is no address of a server", remedy="for example http://localhost:8000/v1"
            )
        self.url = url.rstrip("/")
        if not self.url.endswith("/v1"):
            self.url += "/v1"
        self.headers = {"Content-Type": "application/json"}
        if api_key:
            self.headers["Authorization"] = f"Bearer {api_key}"
        self.timeout = timeout
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        proxies = urllib.request.ProxyHandler({}) if local else urllib.request.ProxyHandler()
        self.opener = urllib.request.build_opener(proxies)
        self.model = model or self._only_model()

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Reply:
        """One chat completion, its prompt made by the server's template."""
        body = {"messages": list(messages), "max_tokens": max_tokens}
        content = self._ask("/chat/completions", body, {"logprobs": True})
        choice = self._choice(content)
        message = choice.get("message") or {}
        thought = message.get("reasoning_content") or message.get("reasoning") or ""
        steps = (choice.get("logprobs") or {}).get("content") or []
        return Reply(
            text=str(thought) + str(message.get("content") or ""),
            finish=choice.get("finish_reason"),
            prompt_tokens=(content.get("usage") or {}).get("prompt_tokens"),
            tokens=tuple(str(step.get("token")) for step in steps),
            logprobs=tuple(float(step["logprob"]) for step in steps),
        )

    def complete(self, answer: GoldenAnswer, max_tokens: int) -> Reply | None:
        """Continue the golden prompt itself, whatever the template; None if this is not offered."""
        for prompt in (answer.prompt_ids, answer.prompt):
            body = {"prompt": prompt, "max_tokens": max_tokens}
            try:
                content = self._ask("/completions", body, {"logprobs": 1})
            except Refused:
                continue
            choice = self._choice(content)
            found = choice.get("logprobs") or {}
            return Reply(
                text=str(choice.get("text") or ""),
                finish=choice.get("finish_reason"),
                prompt_tokens=(content.get("usage") or {}).get("prompt_tokens"),
                tokens=tuple(map(str, found.get("tokens") or [])),
                logprobs=tuple(
                    float(x) for x in found.get("token_logprobs") or [] if x is not None
                ),
            )
        return None

    def _ask(self, path: str, body: dict[str, Any], wish: dict[str, Any]) -> dict[str, Any]:
        """Send a request; what is only wished for is left out if the server refuses it."""
        body = {"model": self.model, "temperature": 0, **body}
        try:
            return self._send(path, {**body, **wish})
        except Refused:
            return self._send(path, body)

    def _send(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self.headers)
        try:
            with self.opener.open(request, timeout=self.timeout) as response:
                content = json.loads(response.read())
        except urllib.error.HTTPError as error:
            said = error.read(300).decode(errors="replace")
            if error.code in (401, 403):
                raise UserError(
                    f"{self.url} refuses the key ({error.code})", remedy="set OPENAI_API_KEY"
                ) from None
            kind = UserError
            if error.code in BUSY:
                kind = Away
            elif error.code < 500 or error.code == 501:
                kind = Refused
            raise kind(f"{self.url}{path} answered {error.code}: {said}") from None
        except (urllib.error.URLError, OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            kind = TimedOut if isinstance(reason, TimeoutError) else Away
            raise kind(
                f"{self.url}{path} cannot be asked: {reason}",
                remedy="check that the server runs, and its address",
            ) from None
        if not isinstance(content, dict):
            raise UserError(f"{self.url}{path} does not speak the OpenAI protocol")
        return content

    def _only_model(self) -> str:
        try:
            names = [str(one["id"]) for one in self._send("/models").get("data") or []]
        except (KeyError, TypeError):
            names = []
        if not names:
            raise UserError(f"{self.url} lists no model", remedy="name it with --model NAME")
        if len(names) > 1:
            raise UserError(
                f"{self.url} serves several models: {', '.join(names)}",
                remedy="name one with --model NAME",
            )
        return names[0]

    def _choice(self, content: dict[str, Any]) -> dict[str, Any]:
        choices = content.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise UserError(f"{self.url} does not speak the OpenAI protocol: no `choices`")
        return choices[0]


class Refused(UserError):
    """The server does not offer this request."""


class Away(UserError):
    """The server is busy, or cannot be reached: later it may answer."""


class TimedOut(UserError):
    """The server did not answer in time."""


def check_served(
    url: str, golden: Golden, *, model: str | None = None, api_key: str | None = None
) -> Verdict:
    """Ask a server the golden prompts, with its own chat template and past it, and compare.

    Raises:
        UserError: The server cannot be reached or does not speak the OpenAI protocol.
    """
    server = Server(url, model, api_key)
    raw: list[tuple[GoldenAnswer, Reply]] = []
    chats: list[tuple[GoldenAnswer, Reply]] = []
    for answer in golden.answers:
        most = len(answer.token_ids) + BEYOND
        reply = server.complete(answer, most) if len(raw) == len(chats) else None
        if reply is not None:
            raw.append((answer, reply))
        try:
            chats.append((answer, server.chat(answer.messages, most)))
        except Refused as error:
            raise UserError(
                f"The server refuses a conversation that the model's own template takes: {error}"
            ) from None
    weights = _weights(raw or chats, by_prompt=bool(raw))
    checks = (weights, _template(chats, weights), _end_of_turn(raw + chats))
    return Verdict(server.url, server.model, checks)


def _weights(pairs: list[tuple[GoldenAnswer, Reply]], *, by_prompt: bool) -> Check:
    """Whether the tokens are as likely to the server as they were to the model."""
    gaps: list[float] = []
    parted: GoldenAnswer | None = None
    for answer, reply in pairs:
        found, same = _gaps(answer, reply)
        gaps += found
        if not same and parted is None:
            parted = answer
    how = "" if by_prompt else ", through the server's own template"
    if not gaps:
        alike = sum(_same_text(answer, reply.text) for answer, reply in pairs)
        detail = f"{alike} of {len(pairs)} answers alike; the server tells no log-probabilities"
        return Check("weights", alike == len(pairs), detail)
    mean, worst = sum(gaps) / len(gaps), max(gaps)
    detail = f"log-probabilities of {len(gaps)} tokens differ by {mean:.3f} on average, "
    detail += f"{worst:.3f} at most{how}"
    if parted is not None or mean > MEAN:
        where = f"; first at {parted.messages[-1]['content']!r}" if parted else ""
        return Check("weights", False, f"not the same weights: {detail}{where}")
    if len(gaps) < FEWEST:
        return Check("weights", None, f"too few tokens to tell: {detail}")
    return Check("weights", True, detail)


def _gaps(answer: GoldenAnswer, reply: Reply) -> tuple[list[float], bool]:
    """Differences up to where the answers part, and whether rounding can explain the parting."""
    gaps = []
    steps = zip(
        answer.tokens,
        answer.logprobs,
        answer.margins,
        reply.tokens,
        reply.logprobs,
        strict=False,
    )
    for token, logprob, margin, said, found in steps:
        if said != token and margin <= 2 * WORST:
            break  # a near-tie, in which rounding picks either
        gaps.append(abs(found - logprob))
        if gaps[-1] > WORST:
            return gaps, False
    return gaps, True


def _template(chats: list[tuple[GoldenAnswer, Reply]], weights: Check) -> Check:
    """Whether the server's template makes the prompts the model was evaluated with."""
    name = "chat template"
    counted = [(a, r) for a, r in chats if r.prompt_tokens is not None]
    for answer, reply in counted:
        if reply.prompt_tokens != len(answer.prompt_ids):
            return Check(
                name,
                False,
                f"the server's prompt for {answer.messages[-1]['content']!r} has "
                f"{reply.prompt_tokens} tokens, the evaluated one {len(answer.prompt_ids)}",
            )
    if weights.passed:
        through = _weights(chats, by_prompt=False)
        if through.passed is False:
            return Check(
                name, False, f"right weights, but chats are answered otherwise: {through.detail}"
            )
    if not counted and weights.passed is False:
        return Check(name, None, "cannot be told apart from other weights on this server")
    told = f"{len(counted)} prompts have the evaluated number of tokens"
    return Check(name, True, told if counted else "chats are answered alike")


def _end_of_turn(pairs: list[tuple[GoldenAnswer, Reply]]) -> Check:
    """Whether the server stops where the model did."""
    name = "end of turn"
    stopped = 0
    for answer, reply in pairs:
        golden, said = answer.text.strip(), reply.text.strip()
        if answer.finish != "stop" or not said.startswith(golden):
            continue
        if reply.finish == "length" or len(said) > len(golden):
            return Check(
                name,
                False,
                f"the model ended its answer to {answer.messages[-1]['content']!r} after "
                f"{len(answer.token_ids)} tokens, the server runs on: "
                f"{said[len(golden) :].strip()[:60]!r}",
            )
        stopped += 1
    if not stopped:
        return Check(
            name, None, "no answer could be followed to its end of turn, so it was not tested"
        )
    return Check(name, True, f"the server stopped where the model did in {stopped} answers")


def _same_text(answer: GoldenAnswer, said: str) -> bool:
    golden, said = answer.text.strip(), said.strip()
    if answer.finish == "length":  # the server was let further
        return said.startswith(golden)
    return said in (golden, golden.rpartition("</think>")[2].strip())
