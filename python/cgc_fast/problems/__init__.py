"""Problems: what is summed over samples and differentiated, a range of coordinates at a time.

Workers import this package, so it needs NumPy and the compiled core only.
"""

from __future__ import annotations

from cgc_fast.problems.linear_models import LeastSquares, LinearModel, LogisticRegression, SoftmaxRegression
from cgc_fast.problems.protocol import Problem, ProblemTraits, check_problem
from cgc_fast.problems.sample_ranges import HeldSamples, as_ranges, merge_ranges

__all__ = [
    "HeldSamples",
    "LeastSquares",
    "LinearModel",
    "LogisticRegression",
    "Problem",
    "ProblemTraits",
    "SoftmaxRegression",
    "as_ranges",
    "check_problem",
    "merge_ranges",
]
