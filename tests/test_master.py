"""The master on a scripted engine: when it waits, for how long, and what it asks for meanwhile."""

from __future__ import annotations

from collections import deque

import numpy as np

from cgc_fast.arguments import Cost
from cgc_fast.engines import Delivered, Lost, Ready
from cgc_fast.master import Master
from cgc_fast.schemes.uncoded import uncoded_schedule
from cgc_fast.supervisor import PATIENCE, START_S, SignOfLife
from cgc_fast.worker import visits_of

HISTORY_S = 1.0
SAMPLES = 4


class ScriptedEngine:
    """Every `wait` answers with the next list of the script; without one it lets the time-out pass."""

    start_s = 0.0

    def __init__(self, workers):
        self.now_s, self.began_s = 0.0, 0.0
        self.script = deque()
        self.timeouts, self.asked = [], []
        self.signs = [SignOfLife(0.0, HISTORY_S, 0)] * workers

    def start(self, iteration, *_):
        self.began_s = self.now_s
        self.iteration = iteration

    def wait(self, timeout_s=None):
        self.timeouts.append(timeout_s)
        if self.script:
            return self.script.popleft()
        assert timeout_s is not None, "waits for ever"
        self.now_s += timeout_s
        return []

    def delivered(self, worker, slot):
        now_s = self.elapsed_s()
        return Delivered(self.iteration, worker, slot, True, 0.0, now_s)

    def is_idle(self):
        return False

    def order(self, worker, visits):
        self.asked.append(("order", worker, [visit.slot for visit in visits]))

    def replace(self, worker):
        self.asked.append(("replace", worker))

    def kill(self, worker):
        self.asked.append(("kill", worker))

    def signs_of_life(self, reset=False):
        return self.signs

    def presence(self):
        return ["there"] * len(self.signs)

    def process_ids(self):
        return [None] * len(self.signs)

    def payload(self, worker, slot):
        return np.full(2, 1.0 + slot)

    def clock_s(self):
        return self.now_s

    def elapsed_s(self):
        return self.now_s - self.began_s

    def finish(self, iteration):
        pass


def master_of(workers):
    schedule = uncoded_schedule(workers, 2)
    engine = ScriptedEngine(workers)
    share = SAMPLES // workers
    held = [np.array([[w * share, (w + 1) * share]]) for w in range(workers)]
    walks = [visits_of(schedule, w, SAMPLES) for w in range(workers)]
    return Master(schedule, engine, walks, held, Cost(SAMPLES, 1.0, 0.0)), engine


def test_a_successor_that_hangs_is_noticed_though_there_was_nobody_to_watch_before():
    master, engine = master_of(1)
    engine.script += [[Lost(0, 1, "")]]
    master.begin(np.zeros(2), np.zeros(2), None)
    assert engine.asked == [("replace", 0)]
    engine.script += [[Ready(0)]]
    master.step()
    assert engine.timeouts[-1] == START_S  # nobody there could hang, but the start could
    assert engine.asked[1:] == [("order", 0, [0])]
    while ("kill", 0) not in engine.asked:  # never waits for ever
        master.step()
    engine.script += [[Lost(0, -9, "")], [Ready(0)], [engine.delivered(0, 0)]]
    while not master.done:
        master.step()
    master.finish()
    assert [event.what for event in master.report.events] == [
        "lost",
        "ready",
        "rescue",
        "suspected",
        "killed",
        "lost",
        "ready",
        "rescue",
    ]


def test_a_successor_is_watched_from_the_moment_that_it_is_there():
    master, engine = master_of(2)
    engine.script += [[]]
    master.begin(np.zeros(2), np.zeros(2), None)
    engine.script += [[Lost(0, 1, "")]]
    master.step()
    # The other one announces a long sleep: only then is there something to look at.
    engine.signs = [engine.signs[0], SignOfLife(1e6, HISTORY_S, 1)]
    master.step()
    engine.script += [[Ready(0)]]
    master.step()
    master.step()
    assert engine.timeouts[-1] <= PATIENCE * HISTORY_S
    assert ("order", 0, [0]) in engine.asked
    assert master.health().workers[0].state == "suspected"
    assert master.health().workers[1].state == "ready"


def test_nothing_is_asked_for_if_all_is_well():
    master, engine = master_of(1)
    gradient = np.zeros(2)
    engine.script += [[]]
    master.begin(np.zeros(2), gradient, None)
    engine.script += [[engine.delivered(0, 0)]]
    (block,) = master.step()
    assert master.done
    assert block.workers == (0,)
    np.testing.assert_array_equal(gradient, [1.0, 1.0])
    assert engine.asked == []
