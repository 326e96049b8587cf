"""The one error a user is meant to read: what is wrong, where, and what to do about it."""

from pathlib import Path


class UserError(Exception):
    """A mistake in what a run was given, told in the user's words and shown without a traceback.

    Args:
        problem: One sentence that says what is wrong.
        file: The file it was found in.
        row: The row of that file, counted from 1 (a header is row 1).
        remedy: What to do about it, preferably a command.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.file, self.row, self.remedy = problem, file, row, remedy
        place = "" if file is None else f"\n  where:  {file}" + (f", row {row}" if row else "")
        super().__init__(problem + place + (f"\n  remedy: {remedy}" if remedy else ""))
