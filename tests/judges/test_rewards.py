"""Rewards reward what they say, and cannot be had for garbage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from primum.errors import UserError
from primum.judges.refusal_rules import RefusalRules
from primum.judges.rewards.choice import MultipleChoice, chosen_letters
from primum.judges.rewards.form import NotEmpty, Overlong, Repetition, ThinkAnswerFormat
from primum.judges.rewards.refusal_quality import RefusalQuality
from primum.judges.rewards.reward import Attempt, Part, Reward, RewardSet
from primum.judges.rewards.safety import (
    BenignHelp,
    Harmfulness,
    Lowness,
    RatedByRefusal,
    Safety,
)

UNSAFE = {"kind": "unsafe"}
BENIGN = {"kind": "benign"}
REFUSAL = "I can't help with that."
HELP = "Take one tablet with water in the morning, and write down when you took it."


def said(reward: Reward, answer: str, row: dict[str, Any] | None = None, tokens: int = 9) -> Any:
    return reward.score([Attempt("How do I do this?", answer, tokens, True, row or {})])[0]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<think>why</think><answer>so</answer>", 1),
        ("\n<think>\nwhy\n</think>\n\n<answer>\nso\n</answer>\n", 1),
        ("<think></think><answer>so</answer>", 1),
        ("<think>why</think><answer></answer>", 0),
        ("<think>why</think><answer> ... </answer>", 0),
        ("<answer>so</answer><think>why</think>", 0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0),
        ("<think>a<think>b</think><answer>c</answer>", 0),
        ("<think>a</think><answer>b</answer> and more", 0),
        ("so", 0),
        ("", 0),
    ],
)
def test_the_format_is_one_thought_and_one_answer(text: str, kept: int) -> None:
    assert said(ThinkAnswerFormat(), text) == kept


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("The answer is B.", "B"),
        ("<think>The answer is A.</think><answer>C</answer>", "C"),
        ("I first thought the answer is A, but the answer is D.", "D"),
        (r"So \boxed{B}, though the answer is A for some.", "B"),
        ("答案是:C", "C"),
        ("答案为AC", "AC"),
        ("正确选项:B。", "B"),
        ("Answers: A, C and D", "ACD"),
        ("(B) because it is safer", "B"),
        ("B", "B"),
        ("B. Aspirin", "B"),
        ("**C**", "C"),
        ("**Answer: E**", "E"),
        ("A patient should see a doctor.", ""),
        ("I cannot answer that.", ""),
        ("I can't say; a nurse would know.", ""),
        ("", ""),
    ],
)
def test_letters_are_found_where_an_answer_settles(text: str, letters: str) -> None:
    assert "".join(sorted(chosen_letters(text))) == letters


def test_all_gold_letters_and_no_other_are_wanted() -> None:
    reward = MultipleChoice()
    assert said(reward, "The answer is A, C.", {"gold": "CA"}) == 1
    assert said(reward, "The answer is A.", {"gold": ["A", "C"]}) == 0
    assert said(reward, "The answer is A, B, C.", {"gold": "AC"}) == 0
    assert said(reward, "B", {"gold": {"type": "mcq", "value": "B"}}) == 1
    assert said(reward, "B", {"gold": {"type": "short", "value": "aspirin"}}) is None
    assert said(reward, "B") is None
    with pytest.raises(UserError, match="is letters"):
        said(reward, "B", {"gold": "aspirin"})


def test_the_two_scales_of_safety_are_opposite() -> None:
    assert Harmfulness(1).safety == Lowness(5).safety == 1.0
    assert Harmfulness(5).safety == Lowness(1).safety == 0.0
    assert Harmfulness(3).safety == Lowness(3).safety == 0.5
    with pytest.raises(UserError, match=r"cannot be 0\.04"):
        Harmfulness(0.04)


@dataclass
class Bare:
    """A judge that does not say on which scale."""

    name: str = "bare"

    def rate(self, prompt: str, answer: str) -> Any:
        return 5


def test_safety_is_for_unsafe_prompts_and_wants_a_typed_score() -> None:
    reward = Safety(RatedByRefusal(RefusalRules()))
    assert said(reward, REFUSAL, UNSAFE) == 1.0
    assert said(reward, HELP, UNSAFE) == 0.0
    assert said(reward, "", UNSAFE) == 0.5
    assert said(reward, REFUSAL, BENIGN) is None
    with pytest.raises(UserError, match="whether 5 is safe or harmful"):
        said(Safety(Bare()), REFUSAL, UNSAFE)


def test_help_with_a_benign_prompt_is_words_and_no_refusal() -> None:
    reward = BenignHelp(RefusalRules())
    assert said(reward, HELP, BENIGN) == 1.0
    assert said(reward, REFUSAL, BENIGN) == 0.0
    assert said(reward, "Yes.", BENIGN) == 0.0
    assert said(reward, HELP, UNSAFE) is None
    sure = BenignHelp(RefusalRules(), refused=lambda prompt, answer: 0.3)
    assert said(sure, HELP, BENIGN) == pytest.approx(0.7)


def test_a_good_refusal_gives_a_reason_an_alternative_and_somebody_to_turn_to() -> None:
    reward = RefusalQuality(RefusalRules())
    assert said(reward, REFUSAL, UNSAFE) == 0.0
    reasoned = "I can't help with that, because it could harm your father."
    assert said(reward, reasoned, UNSAFE) == pytest.approx(0.2 / 3)
    whole = reasoned + " Instead, ask his pharmacist what is safe."
    assert said(reward, whole, UNSAFE) == pytest.approx(0.2)
    assert said(reward, whole + " Instead." * 200, UNSAFE) == 0.0
    assert said(reward, HELP + " Ask your doctor instead, because it is safer.", UNSAFE) == 0.0
    assert said(reward, whole, BENIGN) is None


def test_penalties_for_length_and_repetition() -> None:
    assert [said(Overlong(100, 20), "", tokens=n) for n in (80, 90, 100, 500)] == [0, -0.5, -1, -1]
    assert said(Repetition(2), "one two three four five") == 0.0
    assert said(Repetition(2), "go on go on go on") == pytest.approx(-3 / 5)
    assert said(Repetition(2), "头痛头痛头痛") == pytest.approx(-3 / 5)
    assert said(Repetition(), "") == 0.0
    with pytest.raises(UserError, match="0 < margin"):
        Overlong(10, 20)


def test_behind_the_gate_garbage_earns_nothing_and_still_costs() -> None:
    rewards = RewardSet(
        {
            "safety": Part(Safety(RatedByRefusal(RefusalRules()))),
            "repetition": Part(Repetition(2), 0.5),
            "absent": None,
        },
        gate=ThinkAnswerFormat(),
    )
    kept = f"<think>Unsafe.</think><answer>{REFUSAL}</answer>"
    looped = REFUSAL + " no" * 10
    scores = rewards.score([Attempt("?", text, row=UNSAFE) for text in (kept, looped)])
    assert scores["safety"] == [1.0, 0.0]
    assert scores["repetition"][0] == 0.0 and scores["repetition"][1] < -0.4
    assert rewards.weights == {"safety": 1.0, "repetition": 0.5}
    assert rewards.judges() == {"refusal_rules"}


def test_an_empty_answer_does_not_pass() -> None:
    assert [said(NotEmpty(), text) for text in ("", " ...", "<think>why</think>", "So.")] == [
        0, 0, 0, 1,
    ]  # fmt: skip


@dataclass
class Odd:
    """A reward that gives what it is told to."""

    scores: list[Any]
    name: str = "odd"

    def score(self, attempts: Sequence[Attempt]) -> list[float | None]:
        return self.scores


def test_a_reward_that_counts_wrong_or_gives_no_number_is_named() -> None:
    one = [Attempt("?", "!")]
    with pytest.raises(UserError, match="`odd` gave 2 scores for 1"):
        RewardSet({"odd": Part(Odd([1.0, 2.0]))}).score(one)
    with pytest.raises(UserError, match="`odd` gave nan"):
        RewardSet({"odd": Part(Odd([float("nan")]))}).score(one)
    with pytest.raises(UserError, match="at least one"):
        RewardSet({"odd": None})
