"""A score is never a bare number: it carries its interval, its n and how it was made."""

from typing import Any, NamedTuple

CONFIDENCE = 0.95  # of every interval the project prints


class Score(NamedTuple):
    """One figure of a report.

    Attributes:
        name: What was measured, in a reader's words.
        value: The point estimate; None where it could not be had (`protocol` then says why).
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        n: How many cases it rests on.
        protocol: How it was made: the formula, the judge, the kind of interval.
        higher_is_better: The direction a reader should cheer for; None where there is none.
        unit: `proportion`, `ratio`, `points` or empty; decides how it is printed.

    >>> print(Score("accuracy", 0.5, 0.25, 0.75, 12, "Wilson", unit="proportion"))
    50.0 % [25.0, 75.0], n = 12
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    protocol: str
    higher_is_better: bool | None = None
    unit: str = ""

    @classmethod
    def unavailable(
        cls, name: str, reason: str, higher_is_better: bool | None = None, unit: str = ""
    ) -> "Score":
        """A score that could not be had, with the reason in place of its protocol."""
        return cls(name, None, None, None, 0, f"not available: {reason}", higher_is_better, unit)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Score":
        """Read back what `_asdict` wrote; fields of later versions are ignored."""
        return cls(**{key: value for key, value in fields.items() if key in cls._fields})

    def __str__(self) -> str:
        if self.value is None:
            return self.protocol
        if self.unit == "proportion":
            mark, scale, digits = " %", 100.0, 1
        elif self.unit == "points":
            mark, scale, digits = " points", 100.0, 1
        else:
            mark, scale, digits = "", 1.0, 2 if abs(self.value) >= 10 else 3
        text = f"{self.value * scale:.{digits}f}{mark}"
        if self.low is not None and self.high is not None:
            text += f" [{self.low * scale:.{digits}f}, {self.high * scale:.{digits}f}]"
        return f"{text}, n = {self.n}"
