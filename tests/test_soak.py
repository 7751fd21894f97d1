"""Two hundred iterations of the soak; `make soak` runs two thousand."""

from __future__ import annotations

from soak import soak


def test_nothing_hangs_lies_or_leaks_under_random_faults():
    figures = soak(200, seed=1, rounds=7)
    assert not figures.failures, figures.table()
    assert figures.iterations == 200
    # The machinery was at work: the seed is fixed, who is struck when is not.
    assert figures.faults["kill"] > 0
    assert figures.events["lost"] > 0
    assert figures.events["rescue"] > 0
