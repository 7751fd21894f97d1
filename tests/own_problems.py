"""Users' own problems, in an importable module as worker processes need them. Some misbehave by script."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np

from cgc_fast.problems import LeastSquares


def error_unit(derivatives, parts):
    """max_l Σ_parts |∂_l f_part| of the derivatives (samples, coordinates) of each sample."""
    bounds = np.floor(np.arange(parts + 1) / parts * len(derivatives) + 0.5).astype(int)
    sums = (derivatives[a:b].sum(axis=0) for a, b in itertools.pairwise(bounds))
    return max(1e-300, sum(abs(part) for part in sums).max())


class Quadratic:
    """f_i(θ) = ½ Σ_l w_il (θ_l - t_il)²: in NumPy, no caches, not sliceable."""

    def __init__(self, weights, targets, first=0, ranges=None):
        self.weights, self.targets = weights, targets
        self.samples, self.coordinates = weights.shape
        self.ranges = [(0, self.samples)] if ranges is None else ranges
        self.theta = None

    @classmethod
    def random(cls, samples, coordinates, seed=0):
        generator = np.random.default_rng(seed)
        return cls(
            generator.random((samples, coordinates)) + 0.5, generator.normal(size=(samples, coordinates))
        )

    def shard(self, ranges):
        # Rows that the worker does not hold are NaN: touching one would show in the gradient.
        weights = np.full_like(self.weights, np.nan)
        for low, high in ranges:
            weights[low:high] = self.weights[low:high]
        shard = type(self)(weights, self.targets)
        shard.__dict__.update({k: v for k, v in self.__dict__.items() if k not in ("weights", "targets")})
        return shard

    def begin(self, theta, iteration):
        assert not theta.flags.writeable
        self.theta, self.iteration = theta, iteration

    def derivatives(self, start, stop, ranges, coefficients, out):
        out[:] = 0
        for (low, high), coefficient in zip(ranges, coefficients, strict=True):
            residual = self.theta[start:stop] - self.targets[low:high, start:stop]
            out += coefficient * (self.weights[low:high, start:stop] * residual).sum(axis=0)

    def gradient(self, theta):
        return (self.weights * (theta - self.targets)).sum(axis=0)

    def scale(self, theta, parts):
        """max_l Σ_parts |∂_l f_part|: the unit of the error norm."""
        return error_unit(self.weights * (theta - self.targets), parts)


class ScaledLeastSquares(LeastSquares):
    """Made by workers in the compiled core where the engine can; `scale` as above."""

    @classmethod
    def random(cls, samples, coordinates):
        generator = np.random.default_rng(0)
        return cls(generator.normal(size=(samples, coordinates)), generator.normal(size=samples))

    def scale(self, theta, parts):
        """max_l Σ_parts |∂_l f_part|: the unit of the error norm."""
        return error_unit(self.features * (self.features @ theta - self.targets)[:, None], parts)


# Whoever is struck first leaves its file before it delivers, and may wait for a core in between.
_HEAD_START_S = 0.05


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and how often in all; None: every time, in every successor too.

    `what`: "kill", "raise", "memory", "exit", "vanish" (leaves without a word), "stop" (SIGSTOP), "hang"
    (computes for ever), "nan", "infinity", "late" (answers after 50 ms), "nothing".
    `samples`: only workers that hold all of these; none: any worker.
    `first`: nobody else delivers this cell before it has struck that often.
    """

    what: str
    times: int | None = 1
    samples: tuple = ()
    first: bool = False


class Scripted(Quadratic):
    """Misbehaves by script: {(iteration, where): Fault}.

    `where` is the first coordinate of a cell, or "begin", "forward" or "value". A fault that strikes a
    certain number of times leaves as many files in a folder: a successor knows by them that it was struck.
    """

    held = ()

    def with_script(self, script, folder):
        self.script, self.folder = script, str(folder)
        return self

    def shard(self, ranges):
        shard = super().shard(ranges)
        shard.held = [tuple(map(int, pair)) for pair in ranges]
        return shard

    def begin(self, theta, iteration):
        super().begin(theta, iteration)
        self._strike("begin", None)

    def forward(self, ranges):
        self._strike("forward", None)

    def value(self, ranges, coefficients):
        total = 0.0
        for (low, high), coefficient in zip(ranges, coefficients, strict=True):
            pieces = 0.5 * self.weights[low:high] * (self.theta - self.targets[low:high]) ** 2
            total += coefficient * float(pieces.sum())
        self._strike("value", None)
        return total

    def derivatives(self, start, stop, ranges, coefficients, out):
        super().derivatives(start, stop, ranges, coefficients, out)
        struck = self._strike(start, out)
        fault = self.script.get((self.iteration, start))
        if fault is not None and fault.first:
            deadline = time.monotonic() + 30
            while not all(os.path.exists(self._path(start, i)) for i in range(fault.times)):
                assert time.monotonic() < deadline, "the fault that was to come first never came"
                time.sleep(0.001)
            if not struck:
                time.sleep(_HEAD_START_S)

    def _path(self, where, time_):
        return os.path.join(self.folder, f"{self.iteration}-{where}-{time_}")

    def _takes(self, where, fault):
        """Whether this process is one of those that are struck."""
        for i in range(fault.times):
            try:
                os.close(os.open(self._path(where, i), os.O_CREAT | os.O_EXCL))
                return True
            except FileExistsError:
                continue
        return False

    def _strike(self, where, out):
        """Whether this process was struck, and is there to tell."""
        fault = self.script.get((self.iteration, where))
        if fault is None or not all(
            any(low <= sample < high for low, high in self.held) for sample in fault.samples
        ):
            return False
        if fault.times is not None and not self._takes(where, fault):
            return False
        if fault.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault.what == "raise":
            raise RuntimeError("scripted failure")
        elif fault.what == "memory":
            raise MemoryError("scripted: out of memory")
        elif fault.what == "exit":
            sys.exit(3)
        elif fault.what == "vanish":
            os._exit(0)
        elif fault.what == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif fault.what == "hang":
            while True:
                sum(range(1000))
        elif fault.what == "nan":
            out[0] = np.nan
        elif fault.what == "infinity":
            out[-1] = -np.inf
        elif fault.what == "late":
            time.sleep(0.05)
        else:
            assert fault.what == "nothing", fault.what
        return True


class ScriptedSlices(Scripted):
    """Scripted, and can be sliced: small cells are made and delivered several at a time."""

    sliceable = True


class LoadsOnly(Scripted):
    """Scripted, and after `skip` loads the next `failures` fail, or hang; later ones succeed again."""

    def with_loads(self, skip, failures, hang=False):
        self.skip, self.failures, self.hang = skip, failures, hang
        return self

    def __setstate__(self, state):
        self.__dict__.update(state)
        load = 0
        while True:
            try:
                os.close(os.open(os.path.join(self.folder, f"load-{load}"), os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                load += 1
        if self.skip <= load < self.skip + self.failures:
            if self.hang:
                time.sleep(1000)
            raise OSError("scripted: the data are gone")


class Endless(Quadratic):
    """Computes in one call that never comes back to the interpreter's loop, from iteration 2 on."""

    def derivatives(self, start, stop, ranges, coefficients, out):
        super().derivatives(start, stop, ranges, coefficients, out)
        if self.iteration > 1:
            time.sleep(1000)


class Unreliable(Quadratic):
    """Misbehaves at random, decided beforehand: {iteration: (what, sample)}.

    `what` is "die", "raise", "late" or "nan". Struck are the workers that hold the sample, in their first
    derivatives of that iteration: late are all of them, anything else happens to one only.
    """

    last = 0

    def with_faults(self, faults, folder):
        self.faults, self.folder = faults, str(folder)
        return self

    def derivatives(self, start, stop, ranges, coefficients, out):
        super().derivatives(start, stop, ranges, coefficients, out)
        if self.last == self.iteration:
            return
        self.last = self.iteration
        what, sample = self.faults.get(self.iteration, ("", 0))
        if not what or np.isnan(self.weights[sample, 0]):
            return
        if what == "late":
            time.sleep(0.01 * (os.getpid() % 4))
            return
        try:
            os.close(os.open(os.path.join(self.folder, str(self.iteration)), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        if what == "nan":
            out[0] = np.nan
        elif what == "die":
            os._exit(7)
        else:
            raise RuntimeError("scripted failure")


class SlowSlices(Quadratic):
    """Can be sliced; the worker that comes first in iteration 1 is slow in it, and logs its slices."""

    sliceable = True
    slow = False

    def with_log(self, path):
        self.path = path
        return self

    def derivatives(self, start, stop, ranges, coefficients, out):
        super().derivatives(start, stop, ranges, coefficients, out)
        if self.iteration == 1 and not self.slow:
            try:
                os.close(os.open(f"{self.path}.lock", os.O_CREAT | os.O_EXCL))
                self.slow = True
            except FileExistsError:
                pass
        if self.slow:
            with open(self.path, "a") as log:
                log.write(f"{self.iteration} {start} {stop}\n")
            if self.iteration == 1:
                time.sleep(0.05)


class FailsToLoad(Quadratic):
    """Cannot be unpickled in a worker."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise OSError("scripted: no data here")


class Touched(Quadratic):
    """Counts what it was asked for; for the serial engine."""

    def __init__(self, weights, targets):
        super().__init__(weights, targets)
        self.asked = []

    def derivatives(self, start, stop, ranges, coefficients, out):
        self.asked.append((start, stop, ranges.tolist()))
        super().derivatives(start, stop, ranges, coefficients, out)


def iterate(cluster, count=5):
    """Compare gradients of a cluster whose problem has a `scale` with the plain ones."""
    problem = cluster.problem
    for i in range(count):
        theta = np.random.default_rng(i).normal(size=problem.coordinates)
        error = abs(cluster.gradient(theta) - problem.gradient(theta)).max()
        assert error <= 1e-9 * problem.scale(theta, cluster.schedule.workers)


def make_shard(ranges):
    """A factory: makes the shard in the worker."""
    return Quadratic.random(23, 40).shard(ranges)


def make_shard_or_vanish(ranges):
    """A factory in which whoever is to hold sample 0 leaves without a word."""
    if ranges[0][0] == 0:
        os._exit(0)
    return make_shard(ranges)


def make_nothing(ranges):
    """A factory that fails."""
    raise OSError("scripted: no samples here")


class SaysInstructionSet(Quadratic):
    """Every derivative of a sample is 1 where the kernels run with the baseline, and 0 elsewhere."""

    def derivatives(self, start, stop, ranges, coefficients, out):
        from cgc_fast import build_info

        lengths = np.diff(np.asarray(ranges))[:, 0]
        out[:] = (build_info()["instruction_set"] == "baseline") * float(np.dot(coefficients, lengths))
