"""Slow NumPy twins of the compiled kernels: the specification in executable form.

Used by tests and benches only; nothing in the package imports this module. Each function says which kernel
it is the twin of, and is written for reading, not for speed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# --- block sizes: projection, rounding, runtimes, subgradient -----------------------------------------

# --- codes and weighted sums --------------------------------------------------------------------------

# --- generalised linear models ------------------------------------------------------------------------

# --- schedules and simulation -------------------------------------------------------------------------
