"""What a whole job will cost, each way, and which is the cheapest."""

import math

from primum.parsing.jobs.estimate import estimates, sampled, verdict
from primum.parsing.jobs.inputs import PageInput


def test_the_cheapest_comes_first_even_if_it_is_not_ours() -> None:
    taken = {"plain": [4.0] * 20, "drafted": [2.0, 2.2] * 10, "endpoint": [1.0, 1.1] * 10}
    found = estimates(taken, 3600, price=2.5)
    assert [one.way for one in found] == ["endpoint", "drafted", "plain"]
    assert found[2].hours == (4.0, 4.0, 4.0) and found[2].cost == (10.0, 10.0, 10.0)
    low, high = found[1].hours[1:]
    assert 2.0 < low < 2.1 < high < 2.2
    assert verdict(found, 2.5) == "the endpoint is the cheapest"
    dear = estimates(taken, 3600, price=2.5, endpoint_price=10.0)
    assert verdict(dear, 2.5) == "drafted decoding is the cheapest"


def test_a_small_sample_says_that_it_cannot_tell() -> None:
    found = estimates({"plain": [1.0, 3.0, 2.0], "drafted": [1.2, 2.6, 2.1]}, 100, price=1.0)
    assert "cannot tell" in verdict(found, 1.0)


def test_pages_that_could_not_be_read_are_counted() -> None:
    found = estimates({"plain": [1.0, math.nan], "drafted": [math.nan] * 2}, 10, price=1.0)
    assert [(one.way, one.sample, one.failed) for one in found] == [
        ("plain", 1, 1), ("drafted", 0, 2),
    ]  # fmt: skip
    assert verdict(found, None) == "plain decoding is the cheapest"


def test_a_sample_is_drawn_once_and_in_order() -> None:
    pages = [PageInput.__new__(PageInput) for _ in range(100)]
    first, again = sampled(pages, 10), sampled(pages, 10)
    assert [id(one) for one in first] == [id(one) for one in again]
    places = [next(i for i, page in enumerate(pages) if page is one) for one in first]
    assert places == sorted(set(places)) and len(sampled(pages, 1000)) == 100
