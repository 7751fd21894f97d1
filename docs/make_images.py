"""Draw the pictures of the documentation, but for the one that `make demo` draws.

Run: python docs/make_images.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from scipy import stats

import cgc_fast as cgc

matplotlib.use("Agg")
import matplotlib.pyplot as plt

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Draw three schemes for the same eight workers."""
    law = stats.expon(loc=50, scale=1000)
    plan = cgc.plan(workers=8, coordinates=20_000, cycle_time=law)
    uncoded = cgc.plan(workers=8, coordinates=20_000, cycle_time=law, method="uncoded")
    figure, axes = plt.subplots(3, 1, figsize=(9, 12), layout="constrained")
    for title, schedule, ax in (
        ("uncoded: each worker a part, all are needed", uncoded.schedule(), axes[0]),
        ("cyclic blocks: redundancy rises from block to block", plan.schedule(), axes[1]),
        (
            "fractional repetition: groups compute the same, any one decodes",
            plan.schedule("repetition"),
            axes[2],
        ),
    ):
        schedule.plot(ax)
        ax.set_title(title, loc="left", fontsize=11, pad=34)
    figure.savefig(IMAGES / "schedules.png", dpi=110)


if __name__ == "__main__":
    main()
