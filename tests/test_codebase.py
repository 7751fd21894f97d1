"""Rules about the code itself: imports run one way, the entry module is lazy, names are complete."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import cgc_fast
import jobs

PACKAGE = Path(cgc_fast.__file__).parent

# Each module may import only from modules further left, or from its own place. The order of the house:
# what knows no processes comes first, what a user types comes last.
LAYERS = [
    ["_core", "errors", "interrupts"],
    ["arguments", "partition"],
    ["cyclic_matrices"],
    ["codes", "combine", "memory", "mixtures", "payloads"],
    ["schedule", "plotting", "problems"],  # plotting is imported by Schedule.plot when called
    ["schemes", "straggler_models"],
    ["order_statistics", "simulation", "levels", "fitting"],
    ["censoring", "exact_runtime", "exact_method", "deadlines", "completion_report"],
    ["runtime_model", "closed_forms", "subgradient", "baselines"],
    ["hold_out", "sample_average"],
    ["forward_search"],
    ["scheme_search"],
    ["sampled_plans", "exact_completion", "sampled_completion", "scheme_report"],
    ["plans", "plan_search"],
    ["runtime_search", "completion_search", "scheme_choice"],
    ["planning"],
    ["worker", "decoder", "claims", "feedback_worker"],
    ["supervisor"],
    ["reports"],
    ["engines"],
    ["ordinary"],
    ["master"],
    ["cluster"],
    ["training", "datasets", "timeline", "experiment", "comparison", "frontier", "published"],
    ["cli"],
    ["__main__"],
]
FREE = {"reference", "__init__"}


def layer_of(module):
    for level, names in enumerate(LAYERS):
        if module.split(".")[0] in names:
            return level
    raise AssertionError(f"module {module} has no place in LAYERS")


def imports(path, *, top_level=False):
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules():
    return sorted(
        path.relative_to(PACKAGE).with_suffix("")
        for path in PACKAGE.rglob("*.py")
        if "__pycache__" not in path.parts
    )


@pytest.mark.parametrize("module", [m.as_posix() for m in modules() if m.parts[0] not in FREE])
def test_imports_run_one_way(module):
    own = module.split("/")[0]
    for name in imports(PACKAGE / f"{module}.py"):
        if name.startswith("cgc_fast."):
            other = name.split(".")[1]
            assert other != "reference", "the slow twins are for tests and benches only"
            if (other != own and (PACKAGE / other).exists()) or (PACKAGE / f"{other}.py").exists():
                assert layer_of(other) <= layer_of(own), f"{module} imports {name}"


def test_state_machines_know_no_process_clock_or_io():
    forbidden = {
        "multiprocessing",
        "subprocess",
        "threading",
        "time",
        "os",
        "mmap",
        "asyncio",
        "socket",
        "signal",
    }
    for module in ("decoder", "supervisor", "worker", "claims", "feedback_worker", "schedule", "codes"):
        assert not {name.split(".")[0] for name in imports(PACKAGE / f"{module}.py")} & forbidden


def test_planners_know_no_processes_and_engines_no_mathematics():
    for module in ("planning", "closed_forms", "subgradient", "runtime_model", "partition"):
        assert not {n.split(".")[0] for n in imports(PACKAGE / f"{module}.py")} & {
            "subprocess",
            "multiprocessing",
        }
    for path in (PACKAGE / "engines").rglob("*.py"):
        names = imports(path)
        assert not {n.split(".")[0] for n in names} & {"scipy"}
        assert not names & {"cgc_fast.codes", "cgc_fast.planning", "cgc_fast.schemes"}


def test_the_engine_of_messages_knows_no_network():
    for path in (PACKAGE / "engines" / "messages").glob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in ("mpi4py", "ray", "socket"), f"{path.name} imports {name}"
            assert not name.startswith(("cgc_fast.engines.mpi", "cgc_fast.engines.ray")), path.name


def test_importing_the_package_is_lazy():
    code = (
        "import sys, cgc_fast;"
        "print(sorted(n for n in sys.modules if n.startswith(('cgc_fast.', 'numpy', 'scipy'))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"


def test_worker_processes_import_nothing_of_the_master():
    code = "import sys, cgc_fast.engines.worker_process; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(out.stdout.split())
    assert {"cgc_fast.worker", "cgc_fast.problems.linear_models", "numpy"} <= loaded
    for module in ("schedule", "codes", "decoder", "supervisor", "master", "claims", "feedback_worker"):
        assert f"cgc_fast.{module}" not in loaded
    assert not any(name.split(".")[0] in ("scipy", "matplotlib", "multiprocessing") for name in loaded)


def test_every_public_name_resolves_and_is_documented():
    for name in cgc_fast.__all__:
        assert getattr(cgc_fast, name).__doc__, name
    assert set(cgc_fast.__all__) <= set(dir(cgc_fast))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = cgc_fast.nonsense


def test_public_functions_are_not_shadowed_by_modules():
    for name in cgc_fast.__all__:
        home = cgc_fast._HOME[name]
        if home:
            assert name != home
            with pytest.raises(ModuleNotFoundError):
                importlib.import_module(f"cgc_fast.{name}")


def dotted_modules():
    names = [".".join(["cgc_fast", *m.parts]).removesuffix(".__init__") for m in modules()]
    return [name for name in names if name != "cgc_fast.__main__"]


# In a process of its own: importing these starts what they are about.
WITH_A_RUNTIME = {
    "cgc_fast.engines.mpi": "mpi4py",
    "cgc_fast.engines.ray": "ray",
    "cgc_fast.engines.ray_feedback": "ray",
    "cgc_fast.engines.ray_worker": "ray",
}


def missing_names(modules):
    loaded = [importlib.import_module(module) for module in modules]
    return [f"{m.__name__}.{n}" for m in loaded for n in getattr(m, "__all__", []) if not hasattr(m, n)]


def test_every_exported_name_exists():
    assert not missing_names([module for module in dotted_modules() if module not in WITH_A_RUNTIME])


def test_every_exported_name_of_an_engine_with_a_runtime_exists():
    jobs.need(*sorted(set(WITH_A_RUNTIME.values())))
    assert set(dotted_modules()) >= set(WITH_A_RUNTIME)
    code = f"import test_codebase; assert not test_codebase.missing_names({sorted(WITH_A_RUNTIME)})"
    exit_code, output = jobs.run([sys.executable, "-c", code], timeout_s=60)
    assert exit_code == 0, output


def test_build_info_says_what_was_built():
    info = cgc_fast.build_info()
    assert info["version"] == cgc_fast.__version__
    assert info["cxx_standard"] >= 202002
    assert {"compiler", "build_type", "architecture"} <= set(info)
