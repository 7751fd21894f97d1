"""The engine of ranks that exchange messages, over sockets.

Ranks are lost here at any moment: MPI would end the job, or has to be told not to.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import numpy as np
import pytest

import cgc_fast as cgc
import ranks_over_sockets
from cgc_fast import supervisor
from cgc_fast.engines.messages import session as session_module
from cgc_fast.engines.messages.protocol import Tag
from cgc_fast.engines.messages.transport import Message, RanksGone
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.shared_samples import shared_samples_schedule
from cgc_fast.schemes.single_level import single_level_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Quadratic, iterate, make_shard_or_vanish

WORKERS, SAMPLES, COORDINATES = 3, 23, 40
GIVE_UP_S = 60.0
SHARE = pytest.mark.parametrize("share_memory", [True, False], ids=["shared memory", "messages"])


@pytest.fixture
def ranks():
    with ranks_over_sockets.ranks(WORKERS) as started:
        yield started


def cluster_of(schedule=None, share_memory=True, coordinates=COORDINATES, **others):
    problem = Quadratic.random(SAMPLES, coordinates)
    schedule = schedule or single_level_schedule(WORKERS, coordinates, 1)
    options = {"share_memory": share_memory}
    return cgc.Cluster(schedule, problem, engine="sockets", engine_options=options, **others)


def states(cluster):
    return [worker.state for worker in cluster.health().workers]


def lose(process):
    process.kill()
    process.wait()


# --- ranks that are lost ------------------------------------------------------------------------------------


@SHARE
@pytest.mark.parametrize("schedule", ["one level", "claim"])
def test_a_lost_rank_is_done_without(ranks, share_memory, schedule):
    claim = shared_samples_schedule(WORKERS, COORDINATES, [range(WORKERS)], pieces=12)
    _, processes = ranks
    with cluster_of(claim if schedule == "claim" else None, share_memory) as cluster:
        iterate(cluster)
        lose(processes[1])
        iterate(cluster)
        assert states(cluster) == ["ready", "given up", "ready"]
        iterate(cluster)


def test_too_many_lost_ranks_are_an_error(ranks):
    _, processes = ranks
    with cluster_of() as cluster:
        iterate(cluster)
        for process in processes:
            lose(process)
        with pytest.raises(cgc.WorkerDied, match="its rank is gone"):
            cluster.gradient(np.zeros(COORDINATES))


def test_a_rank_is_lost_while_it_loads(ranks):
    with pytest.raises(cgc.WorkerDied, match="its rank is gone"):
        cluster_of(uncoded_schedule(WORKERS, COORDINATES), factory=make_shard_or_vanish)
    with pytest.raises(cgc.WorkerDied, match="rank 1 is gone, and nobody starts another"):
        cluster_of()


def test_a_rank_is_lost_between_two_clusters(ranks):
    _, processes = ranks
    with cluster_of() as cluster:
        iterate(cluster)
    lose(processes[2])
    with pytest.raises(cgc.WorkerDied, match="its rank is gone"):
        cluster_of()
    with cluster_of(uncoded_schedule(2, COORDINATES)) as cluster:  # the others are not hurt
        iterate(cluster)


@SHARE
def test_a_rank_is_lost_while_it_is_asked_to_leave(ranks, share_memory):
    _, processes = ranks
    cluster = cluster_of(share_memory=share_memory)
    iterate(cluster)
    os.kill(processes[0].pid, signal.SIGSTOP)
    soon = threading.Timer(0.2, processes[0].kill)
    soon.start()
    cluster.close()
    soon.join()
    with pytest.raises(cgc.WorkerDied, match="rank 1 is gone"):
        cluster_of()


def test_a_rank_is_lost_while_the_next_cluster_waits_for_it_to_leave(ranks, monkeypatch):
    monkeypatch.setattr(session_module, "_LEAVE_S", 0.1)
    _, processes = ranks
    cluster = cluster_of()
    iterate(cluster)
    os.kill(processes[0].pid, signal.SIGSTOP)
    cluster.close()
    warned = []

    def warn_and_lose(text, late):
        warned.append((text, late))
        lose(processes[0])

    monkeypatch.setattr(session_module.logger, "warning", warn_and_lose)
    with pytest.raises(cgc.WorkerDied, match="rank 1 is gone"):
        cluster_of()
    assert warned == [("waiting for ranks that have not left the cluster before: %s", [1])]


def test_a_rank_is_lost_while_it_is_to_take_up_another_plan(ranks):
    _, processes = ranks
    with cluster_of() as cluster:
        iterate(cluster)
        os.kill(processes[1].pid, signal.SIGSTOP)
        soon = threading.Timer(0.2, processes[1].kill)
        soon.start()
        cluster.replan(single_level_schedule(WORKERS, COORDINATES, 1))
        soon.join()
        iterate(cluster)
        assert states(cluster) == ["ready", "given up", "ready"]


def test_a_rank_is_lost_in_the_midst_of_a_message(ranks):
    session, processes = ranks
    coordinates = 200_000  # a payload is more than a socket holds
    schedule = cyclic_schedule(WORKERS, coordinates, np.array([0, coordinates, 0]))
    transport, cut = session.transport, []
    receive, is_done = transport.receive, transport.is_done

    def receive_and_lose(message, buffer):
        if message.source == 2 and message.tag >= Tag.PAYLOAD and processes[1].poll() is None:
            lose(processes[1])
        return receive(message, buffer)

    def note_what_is_cut(request):
        try:
            return is_done(request)
        except RanksGone:
            cut.append(request)
            raise

    with cluster_of(schedule, share_memory=False, coordinates=coordinates) as cluster:
        iterate(cluster, 2)
        transport.receive, transport.is_done = receive_and_lose, note_what_is_cut
        deadline = time.monotonic() + GIVE_UP_S
        while processes[1].poll() is None:
            iterate(cluster, 1)
            assert time.monotonic() < deadline
        iterate(cluster, 3)
        assert any(request.left for request in cut)
        assert states(cluster) == ["ready", "given up", "ready"]


@pytest.mark.parametrize("are_working", [False, True])
def test_rank_0_is_lost(ranks, are_working):
    session, processes = ranks
    draws = np.full((2, WORKERS), 1e-6)
    draws[1] = 1e3  # never in the time of this test
    with cluster_of(cycle_times=draws) as cluster:
        iterate(cluster, 1)
        if are_working:
            future = cluster.submit(np.zeros(COORDINATES))
            deadline = time.monotonic() + GIVE_UP_S
            while cluster._master.engine._iteration < 2:
                assert time.monotonic() < deadline
            time.sleep(0.1)
        for link in session.transport.links.values():
            link.socket.shutdown(socket.SHUT_RDWR)
        assert [process.wait(GIVE_UP_S) for process in processes] == [0, 0, 0]
        if are_working:
            assert isinstance(future.exception(GIVE_UP_S), cgc.WorkerDied)


# --- ranks that come back, and clusters that are closed -----------------------------------------------------


@pytest.mark.parametrize("between", [0, 1], ids=["loaded after them", "loaded between them"])
def test_a_rank_that_slept_through_two_plans_goes_on_by_the_second(ranks, monkeypatch, between):
    _, processes = ranks
    with cluster_of(share_memory=False) as cluster:
        iterate(cluster)
        os.kill(processes[1].pid, signal.SIGSTOP)
        try:
            with monkeypatch.context() as soon:  # it is written off
                soon.setattr(supervisor, "KILL_S", 1.0)
                soon.setattr(supervisor, "KILL_FACTOR", 2.0)
                cluster.replan(cyclic_schedule(WORKERS, COORDINATES, np.array([0, COORDINATES, 0])))
            iterate(cluster, between)  # in which it is told to load its samples
            cluster.replan(single_level_schedule(WORKERS, COORDINATES, 1))
            iterate(cluster, 2)
            assert states(cluster)[1] != "ready"
        finally:
            os.kill(processes[1].pid, signal.SIGCONT)
        deadline = time.monotonic() + GIVE_UP_S
        while states(cluster) != ["ready"] * WORKERS:
            iterate(cluster, 1)
            assert time.monotonic() < deadline, str(cluster.health())
        deaths = cluster.health().workers[1].deaths
        lose(processes[0])  # so that it is needed
        iterate(cluster, 3)
        assert cluster.health().workers[1].deaths == deaths == 1


def test_ranks_are_let_go_even_if_closing_breaks_off(ranks):
    session, _ = ranks
    cluster = cluster_of()
    iterate(cluster)

    def raise_instead():
        del session.find
        raise RuntimeError("scripted failure of closing")

    session.find = raise_instead
    with pytest.raises(RuntimeError, match="scripted failure of closing"):
        cluster.close()
    with cluster_of() as cluster:
        iterate(cluster)


def test_a_goodbye_that_is_on_its_way_for_long_holds_nothing_up(ranks, monkeypatch):
    monkeypatch.setattr(session_module, "_LEAVE_S", 0.1)
    session, _ = ranks
    cluster = cluster_of()
    iterate(cluster)
    session.transport.is_done = lambda request: False
    cluster.close()
    assert session._leaving == {1, 2, 3}
    del session.transport.is_done
    with cluster_of() as cluster:
        iterate(cluster)


def test_more_workers_than_ranks_are_refused(ranks):
    with pytest.raises(cgc.ArgumentValueError, match="got 5: start 6 ranks"):
        cluster_of(uncoded_schedule(5, COORDINATES))
    with cluster_of() as cluster:
        iterate(cluster)


def test_there_is_one_cluster_at_a_time(ranks):
    with cluster_of() as cluster:
        iterate(cluster)
        with pytest.raises(cgc.CgcError, match="one cluster at a time"):
            cluster_of()
        iterate(cluster)


def test_a_cluster_that_is_closed_says_nothing_more(ranks):
    cluster = cluster_of()
    engine = cluster._master.engine
    cluster.close()  # by a signal handler, say, in the midst of what follows
    engine.replace(0)
    with pytest.raises(cgc.ClusterClosed, match="make a new one"):
        engine.replan(engine._job, [1.0] * WORKERS)
    with cluster_of() as cluster:
        iterate(cluster)
        assert [rank.loads for rank in cluster._master.engine._ranks] == [0] * WORKERS


def test_an_iteration_that_is_closed_by_a_signal_handler_is_an_error(ranks):
    cluster = cluster_of(cyclic_schedule(WORKERS, COORDINATES, np.array([10, 10, 20])))
    iterate(cluster)
    engine = cluster._master.engine
    entries, closed = engine._signal, []

    def close_and_go_on(*_):  # as a signal handler may, whenever the master waits
        del engine._backoff.pause
        cluster.close()
        closed.append(True)
        # Of a worker that has not heard of it yet; the core comes back to have it asked for once more.
        entries.push(0, engine._iteration, engine._job.walks[0][0].slot, False, 0, 0, False, -1)

    def iterate_until_it_is_closed():
        while not closed:
            cluster.gradient(np.ones(COORDINATES))

    engine._backoff.pause = close_and_go_on
    with pytest.raises(cgc.ClusterClosed, match="while an iteration was under way"):
        iterate_until_it_is_closed()


def test_a_message_that_was_found_when_a_signal_handler_closed_the_cluster_is_received(ranks):
    session, _ = ranks
    cluster = cluster_of(share_memory=False)
    iterate(cluster)
    engine, find = cluster._master.engine, session.transport.find

    def find_and_close():
        message = find()
        if message is not None and message.tag >= Tag.PAYLOAD:
            session.transport.find = find
            cluster.close()
        return message

    session.transport.find = find_and_close
    with pytest.raises(cgc.ClusterClosed):
        cluster.gradient(np.zeros(COORDINATES))
    assert engine._closed
    with cluster_of() as cluster:
        iterate(cluster)


@pytest.mark.parametrize("exit_code", [0, 1])
@pytest.mark.parametrize("what", ["all are well", "one is lost", "one does not answer"])
def test_how_ranks_part(monkeypatch, what, exit_code):
    with ranks_over_sockets.ranks(2) as (session, processes):
        leave, told = session.transport.leave, []
        session.transport.leave = lambda **how: (told.append(how), leave(**how))
        with cluster_of(uncoded_schedule(2, COORDINATES)) as cluster:
            iterate(cluster, 1)
        if what == "one is lost":
            lose(processes[0])
        elif what == "one does not answer":
            os.kill(processes[0].pid, signal.SIGSTOP)
            monkeypatch.setattr(session_module, "_LEAVE_S", 0.3)
        session.dismiss(exit_code)
        all_left, any_gone = what != "one does not answer", what == "one is lost"
        assert told == [{"all_left": all_left, "any_gone": any_gone, "exit_code": exit_code}]
        processes[0].send_signal(signal.SIGCONT)


class LongMessage:
    """A message of an iteration long gone that takes its time, in the place of a link and what receives."""

    is_lost = False

    def __init__(self, begun):
        self.begun, self.left, self.link = begun, True, self

    def receive(self, buffer):
        buffer[:] = 0.0
        self.buffer = buffer
        self.begun.append(self)
        return self

    def work(self):
        pass


def test_messages_of_a_worker_are_received_one_after_the_other(ranks):
    with cluster_of(share_memory=False) as cluster:
        iterate(cluster)
        engine = cluster._master.engine
        layout = engine._ranks[0].layout
        tag, size = engine._first_tag + int(layout.slots[0]), layout.bounds[1]
        begun = []
        first, second = LongMessage(begun), LongMessage(begun)
        engine._receiving = [Message(1, tag, size, found) for found in (first, second)]
        engine._look()
        assert begun == [first]  # the second goes to the same place
        first.left = False
        engine._look()
        assert begun == [first, second]
        assert np.shares_memory(first.buffer, second.buffer)
        second.left = False
        iterate(cluster)
        assert not engine._receiving
