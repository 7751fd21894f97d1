"""The Ray engine: one actor a worker, wherever in the Ray cluster there is room.

    master                                     actor w
    ------                                     -------
    theta in the object store ---------------> mapped read-only
    run(iteration) --------------------------> a generator: payloads come back as they are yielded
    finish(iteration), in a thread of its own > looked at between slices
    order(visits), likewise -----------------> and once more as a run, should the walk be over by then

A running method cannot be interrupted from outside, so a late worker is told to stop. An actor that is lost,
alone or with its node, is replaced by a new one, which Ray starts where there is room.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
import ray
from numpy.typing import NDArray

from cgc_fast.engines.base import Delivered, Event, Job, Lost, Ready
from cgc_fast.engines.launch import pickled_for_worker
from cgc_fast.engines.ray_worker import RayWorker, Task
from cgc_fast.engines.remote_master import RemoteMaster, RemoteRecord
from cgc_fast.engines.remote_worker import Assignment, Sum
from cgc_fast.errors import CgcError
from cgc_fast.interrupts import interrupts_postponed
from cgc_fast.worker import Visit

__all__ = ["RayEngine", "run"]

logger = logging.getLogger(__name__)

# Runs of a worker that have not ended. One it is at, the next waits; more would pile up at one that hangs.
_MOST_RUNS = 2
_LOOK_S = 0.05  # how long to sleep at a time, so that an interrupt from another thread is seen

_Result = TypeVar("_Result")


def run(main: Callable[[], _Result], **options: Any) -> _Result:
    """Call `main` with Ray at work: the cluster that is in use already, or one of this machine for the time.

    Parameters
    ----------
    main : callable
        Makes clusters with ``engine="ray"``.
    **options
        For `ray.init`, if it is called.
    """
    if ray.is_initialized():
        return main()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    settings: dict[str, Any] = {
        "include_dashboard": False,
        "logging_level": logging.ERROR,
        "log_to_driver": False,
    }
    with interrupts_postponed():
        ray.init(**{**settings, **options})
    try:
        return main()
    finally:
        with interrupts_postponed():
            ray.shutdown()


# At a run in one thread, while the master is heard in another.
_Actor: Any = cast(Any, ray).remote(concurrency_groups={"control": 1})(RayWorker)


class _Call(NamedTuple):
    """A call of an actor that has not ended: the generator of an iteration, or without one."""

    worker: int
    method: Literal["run", "identify", "replan"]
    iteration: int = 0


class _Worker(RemoteRecord):
    """What the master knows of a worker; `runs`: how many have not ended."""

    def __init__(self) -> None:
        super().__init__()
        self.actor: Any = None
        self.runs = 0


class RayEngine(RemoteMaster):
    """Start the actors; the constructor returns when all have loaded their samples.

    Parameters
    ----------
    job : Job
    num_cpus, num_gpus : float
        What Ray sets aside for each worker.
    resources : mapping, optional
        Further resources of each worker, by name.
    runtime_env : mapping, optional
        As Ray takes it: where workers on other hosts find your modules, for instance.

    Notes
    -----
    Call `ray.init`, with the address of a cluster or without, before; or see `run`.
    """

    def __init__(
        self,
        job: Job,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        if not ray.is_initialized():
            raise CgcError("engine 'ray': expected Ray to be at work, got none: call ray.init() before")
        super().__init__(job)
        first = pickled_for_worker(job, 0)  # refused before any actor starts
        self._options = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "resources": dict(resources or {}),
            "runtime_env": dict(runtime_env or {}),
            "max_restarts": 0,  # the supervisor decides
            "max_task_retries": 0,
        }
        self._theta: Any = None
        self._with_value = False
        self._calls: dict[Any, _Call] = {}
        self._payloads: dict[tuple[int, int], NDArray[Any]] = {}
        self._workers = [_Worker() for _ in job.walks]
        self._board: Any = None
        self._finalizer = weakref.finalize(self, _kill_all, self._workers)
        try:
            self._lay_out(job)
            for worker in range(len(job.walks)):
                self._launch(worker, first if worker == 0 else pickled_for_worker(job, worker))
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    @property
    def _records(self) -> Sequence[_Worker]:
        return self._workers

    def _launch(self, worker: int, problem: bytes) -> None:
        task = pickle.dumps(Task(worker, self._assignment(worker), problem))
        with interrupts_postponed():
            record = self._workers[worker]
            record.actor = _Actor.options(**self._options).remote(task, self._board)
            record.presence = "starting"
            self._calls[record.actor.identify.remote()] = _Call(worker, "identify")

    def _assignment(self, worker: int) -> Assignment:
        job = self._job
        return Assignment(job.walks[worker], job.slot_widths, job.payload, job.feedback, job.cells)

    def _lay_out(self, job: Job) -> None:
        """Make what goes with a plan."""

    # --- an iteration ---------------------------------------------------------------------------------

    def _put(self, theta: NDArray[np.float64], with_value: bool) -> None:
        self._payloads.clear()
        self._theta, self._with_value = ray.put(theta), with_value

    def _publish(self, worker: int) -> None:
        record = self._workers[worker]
        record.behind = record.runs >= _MOST_RUNS
        if not record.behind:
            self._run(worker, None)

    def _run(self, worker: int, orders: Sequence[Visit] | None) -> None:
        """Let a worker do its walk, or orders."""
        record = self._workers[worker]
        cycle_time = None if self._cycle_times is None else float(self._cycle_times[worker])
        # Few arguments: Ray packs each by itself.
        stream = record.actor.run.remote(self._theta, (self._iteration, cycle_time, self._with_value, orders))
        record.runs += 1
        record.owed += len(self._job.walks[worker] if orders is None else orders)
        self._calls[stream] = _Call(worker, "run", self._iteration)

    def _take_in(self, timeout_s: float) -> None:
        """Sleep until an actor has yielded something, has ended or is there."""
        timeout_s = min(timeout_s, _LOOK_S)
        if not self._calls:
            time.sleep(timeout_s)
            return
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        if ready:
            self._early += self._events_of(ready[0])

    def _events_of(self, reference: Any) -> list[Event]:
        call = self._calls[reference]
        try:
            if call.method == "run":
                return self._take_item(call, ray.get(next(reference)))
            answer = ray.get(reference)
        except ray.exceptions.RayError as error:  # with the traceback in the worker, if Ray has it
            return [self._lose(call.worker, None, str(error))]
        except StopIteration:
            answer = None
        del self._calls[reference]
        return self._take_end(call, answer)

    def _take_end(self, call: _Call, answer: int | None) -> list[Event]:
        worker, method, iteration = call
        record = self._workers[worker]
        if method == "replan":
            return []
        self._hearing.heard(worker, iteration)
        if method == "identify":
            record.presence, record.process_id = "there", answer
            return [Ready(worker)]
        record.runs -= 1
        if record.behind and self._running and record.presence == "there":
            self._publish(worker)
        return []

    def _take_item(self, call: _Call, item: Any) -> list[Event]:
        worker, _, iteration = call
        self._hearing.heard(worker, iteration)
        if item is None:
            return []
        if isinstance(item, Sum):
            return [self._take_sum(worker, iteration, item)]
        if iteration == self._iteration:
            self._workers[worker].owed -= len(item)
            self._payloads.update({(worker, slot): payload for slot, finite, *_, payload in item if finite})
        return [Delivered(iteration, worker, *of_visit) for *of_visit, _ in item]

    def _take_sum(self, worker: int, iteration: int, found: Sum) -> Event:
        raise RuntimeError("the schedule has no claims, so no worker sends sums")

    def finish(self, iteration: int) -> None:
        """Tell the workers that are late."""
        self._running = False
        if self._closed:
            return
        with interrupts_postponed():
            for worker in self._at_work(iteration):
                if self._workers[worker].owed > 0:
                    self._workers[worker].actor.finish.remote(iteration)

    def _at_work(self, iteration: int) -> set[int]:
        return {call.worker for call in self._calls.values() if call.iteration == iteration}

    # --- workers that do not deliver ------------------------------------------------------------------

    def order(self, worker: int, visits: Sequence[Visit]) -> None:
        """Call the actor once more, and tell the walk that it may be at."""
        record = self._workers[worker]
        if record.presence != "there":  # its loss is noticed at the next wait
            return
        with interrupts_postponed():
            if record.runs > 0:
                record.actor.order.remote(self._iteration, list(visits))
            self._run(worker, list(visits))

    def replace(self, worker: int) -> None:
        """Start another actor."""
        self._workers[worker].presence = "starting"
        self._launch(worker, pickled_for_worker(self._job, worker))

    def _send_plan(self, job: Job) -> None:
        """Call every actor, which takes its new walk up when it is done with its last run."""
        self._job = job
        self._lay_out(job)
        # What comes late belongs to the old plan.
        self._calls = {ref: call for ref, call in self._calls.items() if call.method != "run"}
        for worker, record in enumerate(self._workers):
            record.runs, record.behind = 0, False
            if record.presence != "gone":
                plan = pickle.dumps(self._assignment(worker))
                reference = record.actor.replan.remote(plan, self._board)
                self._calls[reference] = _Call(worker, "replan")

    def _outdated(self) -> set[int]:
        """Workers that are there and have not taken up the plan; those being started do when they are."""
        calls = [call for call in self._calls.values() if call.method == "replan"]
        return {call.worker for call in calls if self._workers[call.worker].presence == "there"}

    def _lose(self, worker: int, exit_code: int | None, text: str) -> Lost:
        """Forget a worker that is gone, or whose problem raised and may be in any state."""
        with interrupts_postponed():
            record = self._workers[worker]
            record.presence, record.runs, record.behind = "gone", 0, False
            self._calls = {ref: call for ref, call in self._calls.items() if call.worker != worker}
            actor, record.actor = record.actor, None
            with contextlib.suppress(Exception):  # it may be gone, and so may Ray
                ray.kill(actor)
            return Lost(worker, exit_code, text)

    def payload(self, worker: int, slot: int) -> NDArray[Any]:
        """View into the object store."""
        return self._payloads[worker, slot]

    def _release(self) -> None:
        """Kill the actors."""
        self._calls.clear()
        self._payloads.clear()
        self._theta = None
        self._finalizer()


def _kill_all(workers: Sequence[_Worker]) -> None:
    for record in workers:
        if record.actor is not None:
            with contextlib.suppress(Exception):  # Ray may be gone
                ray.kill(record.actor)
            record.actor = None
