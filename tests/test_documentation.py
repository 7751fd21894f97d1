"""What the documentation shows works as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import cgc_fast

ROOT = Path(__file__).parents[1]
PACKAGE = Path(cgc_fast.__file__).parent


def run(arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ten_lines_of_the_readme_run(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    script = tmp_path / "readme.py"
    script.write_text(code)
    lines = run([str(script)], tmp_path).splitlines()
    assert lines
    assert all(line.startswith("slice(") for line in lines)


RUNTIME_PAGE_BEGINS = """
import asyncio
import numpy as np
from scipy import stats
import cgc_fast as cgc
rng = np.random.default_rng(0)
problem = cgc.problems.LeastSquares(rng.normal(size=(50, 80)), rng.normal(size=50))
plan = cgc.plan(workers=8, coordinates=80, cycle_time=stats.expon(loc=50, scale=1000), method="mean_time")
schedule = plan.schedule()
theta, array, step = np.zeros(80), np.zeros(80), 1e-4
draws = rng.exponential(size=(20, 8)) + 0.1
cluster = cgc.Cluster(schedule, problem, engine="serial", cycle_times=draws)
"""


def test_the_page_of_the_runtime_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/runtime.md").read_text(), flags=re.S)
    code = [RUNTIME_PAGE_BEGINS]
    for block in blocks:
        if block.startswith(">>> "):
            block = block.splitlines()[0].removeprefix(">>> ") + "\n"
        elif "await " in block:
            block = f"async def main():\n{textwrap.indent(block, '    ')}\nasyncio.run(main())\n"
        elif block.startswith("with cgc.Cluster"):  # the others go on with the one from the beginning
            block = block.replace("as cluster", "as first").replace("cluster.gradient", "first.gradient")
        code.append(block)
    assert len(blocks) >= 7
    script = tmp_path / "runtime.py"
    script.write_text("\n".join(code))
    out = run([str(script)], tmp_path)
    assert out.splitlines()[0].split()[:2] == ["worker", "state"]
    assert (tmp_path / "events.jsonl").exists()


def test_the_example_of_an_own_problem_runs():
    out = run(["own_problem.py"], ROOT / "examples")
    difference = float(re.search(r"gradient: (\S+) of", out).group(1))
    assert difference < 1e-9


def test_commands_of_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    commands = set(re.findall(r"^cgc-fast (\w+)", text, flags=re.M))
    assert commands
    helped = run(["-m", "cgc_fast", "--help"], ROOT)
    for command in commands:
        assert command in helped


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page.read_text()):
            if "://" in target:
                continue
            led_to = page.parent / target if target else page
            assert led_to.exists(), f"{page.name}: {target}"
            if heading:
                titles = re.findall(r"^#+ (.+)$", led_to.read_text(), flags=re.M)
                names = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
                assert heading in names, f"{page.name}: {target}#{heading}"


@pytest.mark.parametrize("folder", [PACKAGE, ROOT / "cpp"], ids=["python", "cpp"])
def test_cited_keys_are_references(folder):
    keys = set(re.findall(r"^\| \[(\w+)\]", (ROOT / "docs/references.md").read_text(), flags=re.M))
    assert keys
    sources = [path for path in folder.rglob("*") if path.suffix in {".py", ".cpp", ".hpp", ".inl"}]
    assert sources
    for source in sources:
        for key in re.findall(r"\[([A-Z]{3,}\d\d)\b", source.read_text()):
            assert key in keys, f"{source}: [{key}]"
