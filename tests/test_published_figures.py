"""The published expected runtimes [WANG22], row by row."""

import csv
from importlib import resources

import pytest
from scipy import stats

import cgc_fast as cgc

LAW = stats.expon(loc=50, scale=1000)
COORDINATES = 20_000
DRAWS = 100_000


def published():
    text = (
        resources.files("cgc_fast") / "data" / "reference" / "expected_runtime_vs_workers.csv"
    ).read_text()
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def planned(row, method):
    # The figures leave out the factor M/N: with M = N it is 1.
    workers = int(row["workers"])
    return cgc.plan(workers, COORDINATES, LAW, method=method, samples=workers, draws=DRAWS)


def test_all_rows_are_there():
    assert [int(row["workers"]) for row in published()] == [10, 20, 30, 40, 50]


@pytest.mark.parametrize("row", published(), ids=lambda row: f"N={row['workers']}")
@pytest.mark.parametrize("method", ["mean_time", "mean_rate", "single_level"])
def test_closed_forms_match(row, method):
    # Published to 3 digits from a simulation with about 1 % noise; ours at 10^5 draws has 0.1 %.
    assert planned(row, method).expected_runtime == pytest.approx(float(row[method]), rel=0.01)


@pytest.mark.parametrize("row", published(), ids=lambda row: f"N={row['workers']}")
def test_subgradient_is_not_worse_than_the_published_optimum(row):
    plan = planned(row, "subgradient")
    assert plan.expected_runtime <= float(row["optimal"]) + 2 * plan.expected_runtime_standard_error


@pytest.mark.parametrize(
    ("workers", "optimum"), [(10, 2.3383e7), (20, 2.8198e7), (30, 3.2525e7), (40, 3.6425e7), (50, 3.9971e7)]
)
def test_subgradient_is_close_to_the_true_optimum(workers, optimum):
    plan = planned({"workers": workers}, "subgradient")
    # The optimum is known to 5 digits; 4 standard errors of the score, and 0.3 % left by the method.
    error = 4 * plan.expected_runtime_standard_error + 1e3
    assert optimum - error <= plan.expected_runtime <= 1.003 * optimum + error


@pytest.mark.parametrize("row", published(), ids=lambda row: f"N={row['workers']}")
def test_the_exact_optimum_is_nowhere_worse_than_published(row):
    plan = planned(row, None)
    optimum = {10: 2.3383, 20: 2.8198, 30: 3.2525, 40: 3.6425, 50: 3.9971}[plan.workers]
    assert plan.method == "exact"
    assert plan.relaxed_gap <= 1e-6
    assert plan.expected_runtime / 1e7 == pytest.approx(optimum, abs=5e-5)
    assert all(plan.expected_runtime <= float(row[name]) for name in row if name != "workers")
