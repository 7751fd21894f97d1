"""Schemes: each tiles the rectangle and walks it in its own way, in one file, and returns a `Schedule`.

A new scheme is one more file and one more entry here; simulator, workers, decoder and engines stay as they
are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cgc_fast.errors import unknown_name
from cgc_fast.schedule import Schedule
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.fractional_repetition import fractional_repetition_schedule
from cgc_fast.schemes.load_balancing import load_balancing_schedule
from cgc_fast.schemes.pairs import pairs_schedule
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from cgc_fast.schemes.walked import walked_schedule

__all__ = [
    "SCHEMES",
    "cyclic_schedule",
    "fractional_repetition_schedule",
    "load_balancing_schedule",
    "pairs_schedule",
    "scheme",
    "shared_samples_schedule",
    "single_level_schedule",
    "uncoded_schedule",
    "walked_schedule",
]

# Each takes the workers, the coordinates, and what its docstring says.
SCHEMES: dict[str, Callable[..., Schedule]] = {
    "uncoded": uncoded_schedule,
    "single_level": single_level_schedule,
    "load_balancing": load_balancing_schedule,
    "cyclic": cyclic_schedule,
    "fractional_repetition": fractional_repetition_schedule,
    "pairs": pairs_schedule,
    "walked": walked_schedule,
    "shared_samples": shared_samples_schedule,
}


def scheme(name: str, *arguments: Any, **keywords: Any) -> Schedule:
    """Make a schedule by the name of its scheme; an unknown name is refused with the list of known ones."""
    if name not in SCHEMES:
        raise unknown_name("scheme", name, SCHEMES)
    return SCHEMES[name](*arguments, **keywords)
