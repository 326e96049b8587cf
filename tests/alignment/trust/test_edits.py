"""An edit's operations rebuild the text after, word by word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primum.alignment.trust.edits import apply, difference, distance, edit, introduced, tokens
from primum.errors import UserError

TEXT = st.text(st.sampled_from("ab é5,. \n"), max_size=60) | st.text(max_size=30)


@given(TEXT)
def test_tokens_lose_nothing(text: str) -> None:
    assert "".join(tokens(text)) == text


@given(TEXT, TEXT)
def test_operations_give_the_text_after(before: str, after: str) -> None:
    ops = difference(before, after)
    assert apply(before, ops) == after
    words = [after[start:end] for start, end in introduced(before, ops)]
    assert words == [word for _, _, word in ops if word]
    assert 0 <= distance(before, ops) <= 1
    assert (distance(before, ops) == 0) == (before == after)


@pytest.mark.parametrize("ops", [[[0, 9, "x"]], [[2, 1, "x"]], [[0, 2, "x"], [1, 2, "y"]]])
def test_operations_that_do_not_fit_are_refused(ops: list) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        apply("one two", ops)


def test_an_edit_must_change_something() -> None:
    with pytest.raises(UserError, match="changes nothing"):
        edit("answer", "same", "same", "other", 0)
