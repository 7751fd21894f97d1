"""Draw the pictures of the documentation, but for the one that `make demo` draws.

Run: python docs/make_images.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from scipy import stats

import cgc_fast as cgc
from cgc_fast.schemes import pairs_schedule, shared_samples_schedule, walked_schedule
from cgc_fast.schemes.circles import Block, contiguous_groups

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
    beyond_the_published_one()


def beyond_the_published_one() -> None:
    """Draw pairs that meet, a walked block, and shared samples."""
    figure, axes = plt.subplots(3, 1, figsize=(9, 12), layout="constrained")
    walked = [
        Block(8_000, contiguous_groups(6, 6)),
        Block(12_000, contiguous_groups(6, 1), starts=3, cells=2),
    ]
    for title, schedule, ax in (
        ("pairs that meet: two parts each, towards each other", pairs_schedule(6, 20_000, cells=8), axes[0]),
        ("walked: uncoded, then a circle of three starts", walked_schedule(6, 20_000, walked), axes[1]),
        (
            "shared samples: pieces that are claimed, in groups of three",
            shared_samples_schedule(6, 20_000, contiguous_groups(6, 2), pieces=8),
            axes[2],
        ),
    ):
        schedule.plot(ax)
        ax.set_title(title, loc="left", fontsize=11, pad=34)
    figure.savefig(IMAGES / "schemes.png", dpi=110)


if __name__ == "__main__":
    main()
