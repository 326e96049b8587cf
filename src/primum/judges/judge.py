"""Who scores an answer: a judge has a name, a version and known mistakes."""

from typing import NamedTuple, Protocol, runtime_checkable


class Verdict(NamedTuple):
    """What a judge said of one answer, and the words it rests on."""

    label: str
    evidence: str


@runtime_checkable
class Judge(Protocol):
    """Anything that labels an answer. The version changes whenever a verdict could."""

    name: str
    version: str

    def judge(self, prompt: str, answer: str) -> Verdict:
        """Label one answer."""
        ...
