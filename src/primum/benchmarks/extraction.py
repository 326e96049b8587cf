"""Which options did a free answer choose? A cascade of patterns, and an honest `none of them`."""

import re
from collections.abc import Mapping

THOUGHT = re.compile(r"^.*</think>", re.DOTALL)
TAGGED = re.compile(r"<answer>(.*?)(?:</answer>|$)", re.DOTALL)
BOXED = re.compile(r"\\boxed\{(?:\\text\{)?([^{}]*)\}")
COLON = r"\s*[:\uff1a]?\s*"
SEVERAL = (  # letters, and no article or pronoun that opens a sentence
    r"[(\[*\"]*([A-Z](?:[\s,;\u3001\u548c&]*(?:and\s+)?[(\[]?[A-Z](?![A-Za-z])[)\]]?)*)"
    r"(?![A-Za-z'\u2019]|\s+(?!is\b|because\b|since\b|as\b|for\b|and\b)[a-z])"
)
SAID = (  # the last one counts: models correct themselves
    re.compile(
        r"(?i:answers?|choices?|options?)\s*(?i:(?:is|are|would\s+be|should\s+be))?"
        + COLON
        + r"(?i:options?\s+|choices?\s+|letter\s+)?"
        + SEVERAL
    ),
    re.compile(r"(?:答案|正确选项|故选|应选|选择?)\s*(?:是|为)?" + COLON + SEVERAL),
)
LEADING = re.compile(r"^[\s*(\[]*" + SEVERAL + r"\s*(?:[).:\]\u3001\uff0c\u3002*\n-]|$)")
WORDED = re.compile(r"\b(yes|no|maybe)\b", re.IGNORECASE)


def extract_choice(text: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """The letters (or words) that an answer chooses, sorted; empty if that cannot be told.

    Reasoning is left out and `<answer>` believed; then the first that applies: boxed, "the answer
    is B" or its Chinese kin, a leading letter, the text of exactly one option. A letter that opens
    a sentence ("A patient ...") is no answer.

    >>> extract_choice("<think>not A</think>The answer is (B).", {"A": "rest", "B": "water"})
    ('B',)
    >>> extract_choice("A patient should see a doctor.", {"A": "rest", "B": "water"})
    ()
    >>> extract_choice("答案是 A、C", {"A": "休息", "B": "水", "C": "药"})
    ('A', 'C')
    """
    said = THOUGHT.sub("", text)
    if "<think>" in said:  # it never stopped thinking
        return ()
    tagged = TAGGED.findall(said)
    if tagged:
        said = tagged[-1]
    said = said.strip()
    letters = set(options)
    if not all(len(letter) == 1 for letter in letters):
        return _word(said, letters)
    boxed = BOXED.findall(said)
    if boxed:
        return _known(boxed[-1], letters) or _by_text(boxed[-1], options)
    for pattern in SAID:
        for found in reversed(pattern.findall(said)):
            if chosen := _known(found, letters):
                return chosen
    leading = LEADING.match(said)
    if leading and (chosen := _known(leading.group(1), letters)):
        return chosen
    return _by_text(said, options)


def _known(found: str, letters: set[str]) -> tuple[str, ...]:
    """Sorted letters, if all of them are options."""
    chosen = set(re.findall(r"(?<![A-Za-z])[A-Z](?![a-z])", found)) or set(found.strip())
    return tuple(sorted(chosen)) if chosen and chosen <= letters else ()


def _by_text(said: str, options: Mapping[str, str]) -> tuple[str, ...]:
    """The one option whose text the answer holds, longer options before those within them."""
    plain = _plain(said)
    present = {
        letter for letter, option in options.items() if f" {_plain(option)} " in f" {plain} "
    }
    inner = {
        letter
        for letter in present
        for other in present
        if letter != other and _plain(options[letter]) in _plain(options[other])
    }
    chosen = present - inner
    return tuple(chosen) if len(chosen) == 1 else ()


def _word(said: str, words: set[str]) -> tuple[str, ...]:
    """Yes, no or maybe: behind `answer`, at the start, or as the only one of them."""
    marked = re.findall(
        r"answer\s*(?:is)?" + COLON + r"[*\"'(]*(yes|no|maybe)\b", said, re.IGNORECASE
    )
    opening = WORDED.match(said.lstrip("*\"'( "))
    found = {word.lower() for word in WORDED.findall(said)} & words
    if marked and marked[-1].lower() in words:
        return (marked[-1].lower(),)
    if opening and opening.group().lower() in words:
        return (opening.group().lower(),)
    return tuple(found) if len(found) == 1 else ()


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
