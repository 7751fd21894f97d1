"""Users' own problems, in an importable module as worker processes need them. Some misbehave by script."""

from __future__ import annotations

import itertools
import os
import signal
import time

import numpy as np


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
        bounds = np.floor(np.arange(parts + 1) / parts * self.samples + 0.5).astype(int)
        pieces = self.weights * (theta - self.targets)
        return max(1e-300, sum(abs(pieces[a:b].sum(axis=0)) for a, b in itertools.pairwise(bounds)).max())


class Faulty(Quadratic):
    """Misbehaves in the workers that hold a given sample, by script: {iteration: what}."""

    def with_script(self, sample, script):
        self.sample, self.script = sample, script
        return self

    def derivatives(self, start, stop, ranges, coefficients, out):
        super().derivatives(start, stop, ranges, coefficients, out)
        what = self.script.get(self.iteration)
        if what is None or np.isnan(self.weights[self.sample, 0]):
            return
        if what == "raise":
            raise RuntimeError("scripted failure")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "nan":
            out[0] = np.nan


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


def make_shard(ranges):
    """A factory: makes the shard in the worker."""
    return Quadratic.random(23, 40).shard(ranges)


class SaysInstructionSet(Quadratic):
    """Every derivative of a sample is 1 where the kernels run with the baseline, and 0 elsewhere."""

    def derivatives(self, start, stop, ranges, coefficients, out):
        from cgc_fast import build_info

        lengths = np.diff(np.asarray(ranges))[:, 0]
        out[:] = (build_info()["instruction_set"] == "baseline") * float(np.dot(coefficients, lengths))
