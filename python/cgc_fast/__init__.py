"""Block coordinate gradient coding: exact distributed gradients that do not wait for slow workers."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cgc_fast import baselines as baselines
    from cgc_fast import problems as problems
    from cgc_fast._core import build_info as build_info
    from cgc_fast.cluster import Block as Block
    from cgc_fast.cluster import BlockStream as BlockStream
    from cgc_fast.cluster import Cluster as Cluster
    from cgc_fast.cluster import PartialGradient as PartialGradient
    from cgc_fast.codes import Code as Code
    from cgc_fast.codes import CyclicCode as CyclicCode
    from cgc_fast.codes import RepetitionCode as RepetitionCode
    from cgc_fast.errors import ArgumentTypeError as ArgumentTypeError
    from cgc_fast.errors import ArgumentValueError as ArgumentValueError
    from cgc_fast.errors import CgcError as CgcError
    from cgc_fast.errors import ClusterBusy as ClusterBusy
    from cgc_fast.errors import ClusterClosed as ClusterClosed
    from cgc_fast.errors import DecodeError as DecodeError
    from cgc_fast.errors import NonFiniteGradient as NonFiniteGradient
    from cgc_fast.errors import NotCertified as NotCertified
    from cgc_fast.errors import NumericalError as NumericalError
    from cgc_fast.errors import PoorFitWarning as PoorFitWarning
    from cgc_fast.errors import WorkerDied as WorkerDied
    from cgc_fast.fitting import Fit as Fit
    from cgc_fast.fitting import fit as fit
    from cgc_fast.mixtures import Mixture as Mixture
    from cgc_fast.mixtures import Never as Never
    from cgc_fast.planning import Plan as Plan
    from cgc_fast.planning import plan as plan
    from cgc_fast.problems import Problem as Problem
    from cgc_fast.reports import Delivery as Delivery
    from cgc_fast.reports import Health as Health
    from cgc_fast.reports import IterationReport as IterationReport
    from cgc_fast.reports import WorkerEvent as WorkerEvent
    from cgc_fast.reports import WorkerHealth as WorkerHealth
    from cgc_fast.reports import read_events as read_events
    from cgc_fast.runtime_model import Estimate as Estimate
    from cgc_fast.runtime_model import completion_probability as completion_probability
    from cgc_fast.runtime_model import estimate_completion as estimate_completion
    from cgc_fast.runtime_model import estimate_runtime as estimate_runtime
    from cgc_fast.runtime_model import expected_runtime as expected_runtime
    from cgc_fast.runtime_model import runtime as runtime
    from cgc_fast.schedule import Cell as Cell
    from cgc_fast.schedule import Schedule as Schedule
    from cgc_fast.schedule import Walk as Walk
    from cgc_fast.simulation import simulate as simulate
    from cgc_fast.straggler_models import Trace as Trace

# name -> module; a name is imported when it is first asked for, so that a worker process pays only for
# what it uses.
_HOME = {
    "ArgumentTypeError": "errors",
    "ArgumentValueError": "errors",
    "Block": "cluster",
    "BlockStream": "cluster",
    "Cell": "schedule",
    "CgcError": "errors",
    "Cluster": "cluster",
    "ClusterBusy": "errors",
    "ClusterClosed": "errors",
    "Code": "codes",
    "CyclicCode": "codes",
    "DecodeError": "errors",
    "Delivery": "reports",
    "Estimate": "runtime_model",
    "Fit": "fitting",
    "Health": "reports",
    "IterationReport": "reports",
    "Mixture": "mixtures",
    "Never": "mixtures",
    "NonFiniteGradient": "errors",
    "NotCertified": "errors",
    "NumericalError": "errors",
    "PartialGradient": "cluster",
    "Plan": "planning",
    "PoorFitWarning": "errors",
    "Problem": "problems",
    "RepetitionCode": "codes",
    "Schedule": "schedule",
    "Trace": "straggler_models",
    "Walk": "schedule",
    "WorkerDied": "errors",
    "WorkerEvent": "reports",
    "WorkerHealth": "reports",
    "baselines": "",
    "build_info": "_core",
    "completion_probability": "runtime_model",
    "estimate_completion": "runtime_model",
    "estimate_runtime": "runtime_model",
    "expected_runtime": "runtime_model",
    "fit": "fitting",
    "plan": "planning",
    "problems": "",
    "read_events": "reports",
    "runtime": "runtime_model",
    "simulate": "simulation",
}

__all__ = sorted(_HOME)
__version__ = "0.1.0"

logging.getLogger("cgc_fast").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cgc_fast' has no attribute {name!r}")
    if not _HOME[name]:
        return importlib.import_module(f"cgc_fast.{name}")
    value = getattr(importlib.import_module(f"cgc_fast.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
