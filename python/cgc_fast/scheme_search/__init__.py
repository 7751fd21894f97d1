"""Searches for the parameters of schemes on draws of the cycle times, one file a scheme.

`plan_scheme` is the way in: it draws from a model, or splits a trace, tries who should work with whom, and
scores the result on draws that it was not chosen on.
"""

from __future__ import annotations

from cgc_fast.scheme_search.fractional_repetition import plan_fractional_repetition
from cgc_fast.scheme_search.load_balancing import plan_load_balancing
from cgc_fast.scheme_search.pairs import plan_pairs
from cgc_fast.scheme_search.planned import Limits, PlannedScheme, Score
from cgc_fast.scheme_search.search import SEARCHES, ScoredScheme, plan_scheme
from cgc_fast.scheme_search.shared_samples import plan_shared_samples
from cgc_fast.scheme_search.walked import plan_walked

__all__ = [
    "SEARCHES",
    "Limits",
    "PlannedScheme",
    "Score",
    "ScoredScheme",
    "plan_fractional_repetition",
    "plan_load_balancing",
    "plan_pairs",
    "plan_scheme",
    "plan_shared_samples",
    "plan_walked",
]
