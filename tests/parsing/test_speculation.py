"""The speculation core: whatever is drafted, the output is the target's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.parsing.speculation.alignment import Alignment
from primum.parsing.speculation.automaton import Occurrences, SuffixAutomaton
from primum.parsing.speculation.belief import Belief
from primum.parsing.speculation.budget import FixedBudget, MeanBudget, MeasuredBudget
from primum.parsing.speculation.candidates import NOTHING, Candidates, stack
from primum.parsing.speculation.draft import Draft
from primum.parsing.speculation.own_output import OwnOutput
from primum.parsing.speculation.pace import Pace
from primum.parsing.speculation.region_match import RegionMatch
from primum.parsing.speculation.rest import Rest
from primum.parsing.speculation.scripted import ScriptedTarget
from primum.parsing.speculation.speculator import Speculator
from primum.parsing.speculation.trace import Trace
from primum.parsing.speculation.tree import Tree, bare, cut, merge
from primum.parsing.speculation.walk import walk

letters = st.lists(st.integers(0, 3), max_size=40)
END = 0


def encode(text: str) -> list[int]:
    return [ord(character) for character in text]


def decode(tokens) -> str:
    return "".join(map(chr, tokens))


def speculator(budget=None) -> Speculator:
    proposers = [RegionMatch(), OwnOutput(), Alignment(encode, decode)]
    return Speculator(proposers, budget, depth=12)


def drafts(*texts) -> list[Draft]:
    return [
        Draft(decode(text), np.asarray(text, dtype=np.int64), np.zeros(min(1, len(text)), int))
        for text in texts
    ]


def plain(script, vocabulary, ends, room) -> list[int]:
    target = ScriptedTarget(script, vocabulary)
    while len(target.output) < room and not (target.output and target.output[-1] in ends):
        target.step(bare())
    return target.output


def drafted(spec, script, vocabulary, ends, room, texts) -> tuple[list[int], Trace]:
    target, trace = ScriptedTarget(script, vocabulary), Trace([str(c) for c in spec.claims])
    spec.start(drafts(*texts))
    while len(target.output) < room and not (target.output and target.output[-1] in ends):
        left = room - len(target.output)
        tree = spec.propose(room=left - 1)
        check(tree)
        nodes, tokens = target.step(tree, ends, left)
        trace.add(tree, nodes, len(tokens))
        spec.push(tokens, len(tree) - 1)
    return target.output, trace


def check(tree: Tree) -> None:
    """A tree: parents first, sight = ancestors, children of a node differ, chances fall."""
    for node in range(1, len(tree)):
        parent = tree.parents[node]
        assert parent < node
        assert tree.depths[node] == tree.depths[parent] + 1
        expected = tree.sight[parent].copy()
        expected[node] = True
        assert (tree.sight[node] == expected).all()
        assert tree.chances[node] <= tree.chances[parent]
        assert tree.tokens[node] >= 0
    pairs = list(zip(tree.parents[1:].tolist(), tree.tokens[1:].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)


@settings(max_examples=150, deadline=None)
@given(letters, st.lists(letters, max_size=4), st.integers(2, 6), st.integers(0, 60), st.booleans())
@pytest.mark.seconds
def test_the_output_is_plain_decoding_whatever_is_drafted(script, texts, vocabulary, room, eos):
    """End inside a draft, cap inside a path, duplicate, empty and short drafts, none at all."""
    ends = frozenset({END}) if eos else frozenset()
    spec = speculator(FixedBudget(20, floor=0.0))
    for _ in range(2):  # a second page must not remember the first one's drafts
        output, trace = drafted(spec, script, vocabulary, ends, room, texts)
        assert output == plain(script, vocabulary, ends, room)
        assert trace.tokens == len(output)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(0, 2), max_size=30))
def test_the_automaton_finds_the_longest_suffix_and_all_its_places(book, output):
    index = Occurrences(book)
    state = length = 0
    for place, token in enumerate(output):
        state, length = index.automaton.step(state, length, token)
        suffixes = (output[place + 1 - size : place + 1] for size in range(place + 1, 0, -1))
        inside = [s for s in suffixes if any(book[i : i + len(s)] == s for i in range(len(book)))]
        assert length == (len(inside[0]) if inside else 0)
        if length:
            ends = [i + length - 1 for i in range(len(book)) if book[i : i + length] == inside[0]]
            assert sorted(index.ends(state).tolist()) == ends
            above = index.automaton.link[state]
            others = sorted(set(index.ends(above).tolist()) - set(ends))
            assert sorted(index.ends(above, but=state).tolist()) == others


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=60))
def test_repeats_are_suffixes_that_occurred_before(tokens):
    found = list(SuffixAutomaton(tokens).repeats())
    assert [length for length, _ in found] == sorted((length for length, _ in found), reverse=True)
    for length, ends in found:
        for end in ends:
            assert tokens[end + 1 - length : end + 1] == tokens[len(tokens) - length :]
    longest = max(
        (n for n in range(len(tokens)) for i in range(len(tokens) - n)
         if tokens[i : i + n] == tokens[len(tokens) - n :]), default=0,
    )  # fmt: skip
    assert (found[0][0] if found else 0) == longest


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=8),
    st.integers(1, 30),
)
def test_merging_keeps_every_prefix_once(rows, size):
    tokens = np.full((len(rows), 5), NOTHING, dtype=np.int64)
    for row, values in enumerate(rows):
        tokens[row, : len(values)] = values
    zeros = np.zeros(len(rows), dtype=np.int64)
    candidates = Candidates(tokens, zeros, zeros)
    paths = merge(candidates, Belief(1).chances(candidates))
    prefixes = {tuple(row[: n + 1]) for row in rows for n in range(len(row))}
    assert len(paths.chances) == len(prefixes)
    whole = cut(paths, 10**6, floor=-1.0)
    check(whole)
    found = {tuple(whole.tokens[np.flatnonzero(s)[1:]].tolist()) for s in whole.sight[1:]}
    assert found == prefixes
    part = cut(paths, size, floor=-1.0)
    check(part)
    assert len(part) == min(size, len(prefixes)) + 1
    assert part.chances[1:].min() >= np.sort(paths.chances)[::-1][len(part) - 2] - 1e-12


def test_walk_takes_the_longest_agreement_and_one_token_more():
    tree = Tree(
        tokens=np.array([0, 5, 6, 7, 8]),
        parents=np.array([0, 0, 0, 1, 3]),
        depths=np.array([0, 1, 1, 2, 3]),
        chances=np.ones(5),
        claims=np.zeros(5, dtype=int),
        sight=np.tri(5, dtype=bool),
    )
    assert walk(tree, np.array([5, 7, 0, 9, 0])) == ([0, 1, 3], [5, 7, 9])
    assert walk(tree, np.array([4, 0, 0, 0, 0])) == ([0], [4])


def test_a_perfect_draft_costs_one_forward_in_a_dozen_tokens():
    script = list(np.random.default_rng(0).permutation(300) + 1)
    _, trace = drafted(speculator(), script, 1000, frozenset(), 300, [script])
    assert trace.forwards <= 300 / 13 + 6
    assert trace.by_claim() and trace.accepted > 260


def test_alignment_survives_misreadings_that_break_tokens():
    text = "Speculative decoding verifies a draft in one forward, then keeps what it agrees with. "
    text = "".join(f"{number}. {text}" for number in "abcdefgh")
    words = text.split(" ")
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    names = list(vocabulary)
    draft = text.replace("verifies", "veriﬁes").replace("draft", "dra ft").replace(",", " ,")

    def to_tokens(piece: str) -> list[int]:
        return [vocabulary.setdefault(word, len(vocabulary)) for word in piece.split(" ")]

    def to_text(tokens) -> str:
        return " ".join(names[token] if token < len(names) else "?" for token in tokens) + " "

    script = to_tokens(text)
    made = [Draft(draft, np.asarray(to_tokens(draft)), np.zeros(1, dtype=np.int64))]
    forwards = []
    for proposers in ([RegionMatch()], [RegionMatch(), Alignment(to_tokens, to_text)]):
        spec, target = Speculator(proposers), ScriptedTarget(script)
        spec.start(made)
        count = 0
        while len(target.output) < len(script):
            _, tokens = target.step(spec.propose(), room=len(script) - len(target.output))
            spec.push(tokens)
            count += 1
        assert target.output == script
        forwards.append(count)
    assert forwards[1] < forwards[0]


def test_beliefs_follow_what_happens():
    belief = Belief(2)
    right = Candidates(np.array([[1, 2], [3, 4]]), np.array([0, 1]), np.array([3, 3]))
    before = belief.rates.copy()
    for _ in range(30):
        belief.learn(right, right.right(np.array([1, 2, 9])))
    assert (belief.rates[0, 3:5] > before[0, 3:5]).all()
    assert belief.rates[1, 3] < before[1, 3]
    assert belief.rates[1, 4] == before[1, 4]  # never reached


def test_the_mean_budget_is_never_passed():
    budget, spent = MeanBudget(mean=10, most=60), 0
    rng = np.random.default_rng(0)
    for step in range(1, 400):
        nodes = budget.nodes(np.sort(rng.random(100) ** 3)[::-1])
        budget.record(nodes, 1, 0.0)
        spent += nodes
        assert spent <= 10 * step
    assert spent > 9 * 399


def test_the_measured_budget_stops_drafting_where_it_does_not_pay():
    dear = MeasuredBudget({1: 1.0, 64: 64.0})
    assert dear.nodes(np.full(20, 0.3)) == 0
    cheap = MeasuredBudget({1: 1.0, 64: 1.1})
    assert cheap.nodes(np.full(20, 0.3)) == 20
    for _ in range(200):
        cheap.record(20, 7, 0.0)
    assert cheap.nodes(np.array([0.9, 0.5, 0.001])) == 2


def test_a_captured_width_is_filled():
    steps = MeasuredBudget({1: 1.0, 8: 1.1, 9: 2.0, 16: 2.0})
    for _ in range(100):
        nodes = steps.nodes(np.full(15, 0.2))
        steps.record(nodes, 1 + nodes // 5, 0.0)
    assert steps.nodes(np.full(15, 0.2)) == 7


def test_stack_leaves_empty_continuations_out():
    zeros = np.zeros(2, dtype=np.int64)
    stacked = stack([Candidates(np.array([[1, -1, 5], [-1, 3, 3]]), zeros, zeros)], 3)
    assert stacked.tokens.tolist() == [[1, -1, -1]]


def test_the_best_chain_is_a_chain_of_the_tree():
    zeros = np.zeros(3, dtype=np.int64)
    candidates = Candidates(np.array([[1, 2, 3], [1, 4, 5], [6, 7, 8]]), zeros, zeros)
    chances = np.array([[0.9, 0.2, 0.2], [0.9, 0.8, 0.8], [0.05, 0.9, 0.9]])
    chain = cut(merge(candidates, chances), 99).best_chain()
    assert chain.is_chain
    assert chain.tokens[1:].tolist() == [1, 4, 5]
    check(chain)


@pytest.mark.parametrize("text", ["", "a"])
def test_drafts_shorter_than_any_window(text):
    output, _ = drafted(speculator(), encode("abcab"), 200, frozenset(), 5, [encode(text)])
    assert output == encode("abcab")


class Useless(OwnOutput):
    """Proposes what never comes, and counts how often it is asked."""

    asked = 0

    def propose(self, depth):
        self.asked += 1
        tokens = np.full((1, depth), 999, dtype=np.int64)
        return Candidates(tokens, np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))


class Listener(Useless):
    def __init__(self):
        self.heard = []

    def push(self, tokens):
        self.heard.append(list(tokens))

    def propose(self, depth):
        assert sum(map(len, self.heard)) == self.written  # asked with the whole output known
        return super().propose(depth)


def test_in_a_pause_the_output_is_told_in_portions():
    proposer = Listener()
    spec = Speculator([proposer], MeasuredBudget({1: 1.0, 64: 1.1}))
    spec.start([])
    for proposer.written in range(300):
        drafted = len(spec.propose()) > 1
        spec.push([proposer.written], seconds=3.0 if drafted else 1.0)
    told = [token for portion in proposer.heard for token in portion]
    assert told == list(range(len(told))) and len(told) > 290
    assert 10 < proposer.asked < 60
    assert len(proposer.heard) < 120


def test_a_resting_proposer_wakes_where_its_evidence_is_plain():
    rest = Rest(patience=2)
    for _ in range(9):
        rest.learn(0)
    assert [rest.over(match=3) for _ in range(3)] == [False] * 3
    assert rest.over(match=4)
    assert not rest.over()  # for this step alone
    for _ in range(3):
        rest.learn(8)
    assert [rest.over() for _ in range(20)].count(True) >= 8


def test_drafting_stops_where_the_clock_says_that_it_does_not_pay():
    pace = Pace(plain=1.0)

    def steps(count, good, seconds, plain):
        asked = 0
        for _ in range(count):
            drafted = pace.over()
            asked += drafted
            pace.learn(*((good, seconds) if drafted else (1, plain)), drafted)
        return asked

    assert steps(400, 1.4, 2.0, 1.0) < 30  # 1.4 tokens in the time of two
    assert pace.over(match=12) or pace.over()  # a long match is worth a step
    steps(80, 8, 2.0, 1.0)
    assert steps(50, 8, 2.0, 1.0) == 50  # drafts are good from here on
    pace.begin()
    assert steps(100, 1.4, 30.0, 18.0) < 40  # a slow machine is slow for both
    assert pace.plain > 15
    while pace.over():
        steps(1, 1.4, 30.0, 18.0)
    assert pace.over(match=12)
    for _ in range(3):
        pace.learn(9, 30.0, True)
    assert pace.over()  # woken, and it pays
    unknown = Pace()
    for _ in range(60):
        unknown.learn(1, 9.0, True)
    assert unknown.over()


def test_drafting_rests_where_it_brings_nothing_and_wakes_where_it_does():
    proposer = Useless()
    spec = Speculator([proposer], FixedBudget(8))
    script = list(range(400))
    _, trace = drafted(spec, script, 500, frozenset(), 400, [])
    assert trace.forwards == 400
    assert proposer.asked < 50
    proposer = Useless()
    useful = list(range(100, 500))
    _, trace = drafted(
        Speculator([RegionMatch(), proposer], FixedBudget(8), depth=3),
        useful, 500, frozenset(), 400, [useful],
    )  # fmt: skip
    assert trace.forwards < 110  # the other one drafts at every step
    assert proposer.asked < 40
    spec = Speculator([RegionMatch()], FixedBudget(8), depth=12)
    useful = list(range(100, 300))
    _, trace = drafted(spec, list(range(400, 500)) + useful, 500, frozenset(), 300, [useful])
    assert trace.forwards < 100 + 16 + 200 / 7
