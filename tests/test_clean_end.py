"""However a master ends, its workers end too, and nothing is left of either."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import cgc_fast as cgc
from cgc_fast.schemes.cyclic import cyclic_schedule
from cgc_fast.schemes.uncoded import uncoded_schedule
from own_problems import Quadratic
from test_processes import assert_gone, run_script

SAMPLES, COORDINATES = 23, 40
THETA = np.linspace(-1, 1, COORDINATES)
GIVE_UP_S = 60

# A script whose workers answer twice and then never; every process id is printed as soon as it is known.
PREAMBLE = """
    import asyncio, json, os, signal, subprocess, sys, threading, time
    import numpy as np
    import cgc_fast as cgc
    from cgc_fast.schemes.cyclic import cyclic_schedule
    from cgc_fast.schemes.uncoded import uncoded_schedule
    from own_problems import Endless, Quadratic
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
    THETA = np.linspace(-1, 1, 40)
    def say(*what):
        os.write(1, (json.dumps(what) + "\\n").encode())
    started = subprocess.Popen.__init__
    def start(self, *args, **kwargs):
        started(self, *args, **kwargs)
        say("process", self.pid)
    subprocess.Popen.__init__ = start
    def slow(answers=2):
        draws = np.full((1000, 3), 1e-7)
        draws[answers:] = 1e6
        return cgc.Cluster(uncoded_schedule(3, 40), Quadratic.random(23, 40), cycle_times=draws)
    def endless():
        return cgc.Cluster(uncoded_schedule(3, 40), Endless.random(23, 40))
    def plain():
        return cgc.Cluster(cyclic_schedule(3, 40, np.array([10, 10, 20])), Quadratic.random(23, 40))
    def exact(cluster):
        assert abs(cluster.gradient(THETA) - cluster.problem.gradient(THETA)).max() < 1e-9
"""


class Script:
    """A script under way; what it says comes in lines of JSON."""

    def __init__(self, tmp_path, body, **kwargs):
        import textwrap

        self.process = run_script(
            tmp_path, textwrap.dedent(PREAMBLE) + textwrap.dedent(body), start_new_session=True, **kwargs
        )
        self.workers = []
        self.said = []

    def until(self, word):
        """Read until it says this word; what it says with it."""
        while line := self.process.stdout.readline():
            what, *rest = json.loads(line)
            self._note(what, rest)
            if what == word:
                return rest
        raise AssertionError(f"ended before {word!r}: {self.process.communicate()[1]}")

    def _note(self, what, rest):
        if what == "process":
            self.workers += rest
        else:
            self.said.append(what)

    def end(self, returncode=0, err=""):
        """Wait for its end; all that it ever started must be gone."""
        try:
            out, errors = self.process.communicate(timeout=GIVE_UP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"hangs; {self.said}: {self.process.communicate()}") from None
        for line in out.splitlines():
            what, *rest = json.loads(line)
            self._note(what, rest)
        assert self.process.returncode == returncode, errors
        if err is not None:
            assert errors == err
        assert_gone(self.workers)
        return errors


NORMAL_ENDS = {
    "closed": """
        with plain() as cluster:
            exact(cluster)
    """,
    "no close": """
        cluster = plain()
        exact(cluster)
    """,
    "no close, never used": """
        cluster = plain()
    """,
    "stream half consumed": """
        cluster = slow()
        cluster.gradient(THETA); cluster.gradient(THETA)
        stream = cluster.stream(THETA)
    """,
    "stream half consumed, in a reference cycle": """
        cluster = plain()
        stream = cluster.stream(THETA)
        next(stream)
        cycle = [stream, cluster]
        cycle.append(cycle)
        del stream, cluster, cycle
    """,
    "future under way": """
        cluster = slow(0)
        future = cluster.submit(THETA)
        time.sleep(0.1)
    """,
    "future under way, several clusters": """
        clusters = [slow(0), slow(0), plain()]
        futures = [cluster.submit(THETA) for cluster in clusters]
        time.sleep(0.05)
    """,
    "future under way, closed": """
        with slow(0) as cluster:
            future = cluster.submit(THETA)
        assert isinstance(future.exception(), cgc.ClusterClosed)
    """,
    "successors under way": """
        cluster = plain()
        for worker in cluster.health().workers:
            os.kill(worker.process_id, signal.SIGKILL)
        time.sleep(0.2)
        try:
            cluster.gradient(THETA, deadline_s=0.001)
        finally:
            say("asked")
    """,
    "workers in an endless call": """
        with endless() as cluster:
            exact(cluster)
            cluster.gradient(THETA, deadline_s=0.2)
    """,
    "closed by a signal handler that exits": """
        cluster = slow(0)
        signal.signal(signal.SIGTERM, lambda *_: (cluster.close(), sys.exit(0)))
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        cluster.gradient(THETA)
        raise AssertionError
    """,
    "closed by a signal handler that goes on": """
        cluster = slow(0)
        signal.signal(signal.SIGTERM, lambda *_: cluster.close())
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        try:
            cluster.gradient(THETA)
        except cgc.ClusterClosed:
            say("closed")
    """,
    "a thread that is no daemon": """
        cluster = plain()
        thread = threading.Thread(target=lambda: (time.sleep(0.2), exact(cluster), say("exact")))
        thread.start()
    """,
}


@pytest.mark.parametrize("name", NORMAL_ENDS)
def test_normal_ends(name, tmp_path):
    script = Script(tmp_path, NORMAL_ENDS[name])
    script.end()
    if "thread" in name:
        assert "exact" in script.said


def test_an_exception_in_the_with_block(tmp_path):
    body = """
        with plain() as cluster:
            for block in cluster.stream(THETA):
                raise RuntimeError("of the user")
    """
    errors = Script(tmp_path, body).end(1, None)
    assert errors.strip().splitlines()[-1] == "RuntimeError: of the user"
    assert "cgc_fast" not in errors


INTERRUPTED = """
    # Not within these: there Ctrl-C may strike in the midst of initialising somebody's extension module.
    import cgc_fast.cluster, cgc_fast.engines.processes
    try:
        say("begin")
        for turn in range(1000):
            with plain() as cluster:
                for _ in range(20):
                    exact(cluster)
                cluster.submit(THETA)
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(77)
"""


@pytest.mark.parametrize("seed", range(3))
def test_ctrl_c_at_any_moment(seed, tmp_path):
    chance = random.Random(seed)
    for trial in range(5):
        script = Script(tmp_path, INTERRUPTED)
        script.until("begin")
        time.sleep(chance.uniform(0.0, 1.0))
        os.killpg(script.process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        script.end(77)
        assert script.said[-1] == "interrupted", f"trial {trial}"


def test_ctrl_c_and_the_cluster_goes_on(tmp_path):
    body = """
        cluster = plain()
        exact(cluster)
        interruptions = 0
        while interruptions < 30:
            try:
                say("again")
                while True:
                    exact(cluster)
            except KeyboardInterrupt:
                interruptions += 1
        exact(cluster)
        assert all(w.deaths == 0 for w in cluster.health().workers)
        cluster.close()
    """
    script = Script(tmp_path, body)
    chance = random.Random(0)
    for _ in range(30):
        script.until("again")
        time.sleep(chance.uniform(0.0, 0.01))
        os.killpg(script.process.pid, signal.SIGINT)
    script.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_the_master_is_killed_while_workers_are_in_an_endless_call(number, tmp_path):
    body = """
        cluster = endless()
        exact(cluster)
        say("begin")
        cluster.gradient(THETA)
    """
    script = Script(tmp_path, body)
    script.until("begin")
    time.sleep(0.2)
    script.process.send_signal(number)
    script.end(-number)


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15, 0.4])
def test_the_master_is_killed_while_it_starts(delay_s, tmp_path):
    script = Script(tmp_path, "say('begin'); cluster = plain(); exact(cluster); time.sleep(1000)")
    script.until("process")
    time.sleep(delay_s)
    script.process.kill()
    script.end(-signal.SIGKILL, None)


def test_a_fork_of_the_master_leaves_the_cluster_alone(tmp_path):
    body = """
        cluster = plain()
        log = open("log", "w+")
        stream = cluster.stream(THETA)
        first = next(stream)
        child = os.fork()
        if child == 0:
            for use in (lambda: cluster.gradient(THETA), lambda: cluster.stream(THETA), lambda: next(stream)):
                try:
                    use()
                except cgc.ClusterClosed:
                    pass
                else:
                    os._exit(3)
            mine = [open(os.devnull) for _ in range(50)]  # takes every descriptor that was given back
            stream.close()
            cluster.close()
            sys.exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        covered = np.zeros(40, dtype=bool)
        covered[first.coordinates] = True
        for block in stream:
            covered[block.coordinates] = True
        assert covered.all()
        for _ in range(100):
            exact(cluster)
        assert all(w.deaths == 0 and w.suspicions == 0 for w in cluster.health().workers)
    """
    Script(tmp_path, body, cwd=tmp_path).end()


def test_a_fork_while_a_future_is_under_way(tmp_path):
    body = """
        cluster = slow(0)
        future = cluster.submit(THETA)
        child = os.fork()
        if child == 0:
            with cluster:
                pass
            sys.exit(5)
        deadline = time.monotonic() + 30
        while (found := os.waitpid(child, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline, "the child hangs"
            time.sleep(0.01)
        assert os.waitstatus_to_exitcode(found[1]) == 5
        assert not future.done()
        cluster.close()
        assert isinstance(future.exception(), cgc.ClusterClosed)
    """
    Script(tmp_path, body).end()


def test_workers_leave_with_the_master_though_a_fork_of_it_lives(tmp_path):
    body = """
        cluster = endless()
        exact(cluster)
        child = os.fork()
        if child == 0:
            os.close(1); os.close(2)
            time.sleep(1000)
        say("child", child)
        cluster.gradient(THETA)
    """
    script = Script(tmp_path, body)
    (child,) = script.until("child")
    time.sleep(0.2)
    script.process.kill()
    try:
        script.end(-signal.SIGKILL)
        assert Path(f"/proc/{child}").exists()
    finally:
        os.kill(child, signal.SIGKILL)


def test_two_interpreters_at_once(tmp_path):
    scripts = []
    for name in "ab":
        (tmp_path / name).mkdir()
        body = "with plain() as cluster:\n    [exact(cluster) for _ in range(50)]"
        scripts.append(Script(tmp_path / name, body))
    for script in scripts:
        script.end()


# --- in this process -----------------------------------------------------------------------------------


def plain_cluster(workers=3, **kwargs):
    sizes = np.zeros(workers, dtype=np.int64)
    sizes[0], sizes[-1] = COORDINATES // 2, COORDINATES - COORDINATES // 2
    problem = Quadratic.random(SAMPLES, COORDINATES)
    return cgc.Cluster(cyclic_schedule(workers, COORDINATES, sizes), problem, **kwargs)


def assert_exact(gradient, cluster):
    problem = cluster.problem
    assert abs(gradient - problem.gradient(THETA)).max() <= 1e-9 * problem.scale(THETA, 3)


def never_answering():
    draws = np.full((3, 2), 1e-7)
    draws[1] = 1e6
    problem = Quadratic.random(SAMPLES, COORDINATES)
    return cgc.Cluster(uncoded_schedule(2, COORDINATES), problem, cycle_times=draws)


def test_an_exception_in_the_loop_leaves_nothing_and_the_cluster_usable():
    with plain_cluster() as cluster:
        with pytest.raises(ZeroDivisionError):
            _ = [1 / 0 for _ in cluster.stream(THETA)]
        assert_exact(cluster.gradient(THETA), cluster)


def test_several_clusters_and_threads_at_once():
    with plain_cluster() as one, plain_cluster(2) as two:
        busy, done = [], []

        def work(cluster):
            for _ in range(40):
                try:
                    assert_exact(cluster.gradient(THETA), cluster)
                    done.append(cluster)
                except cgc.ClusterBusy:
                    busy.append(cluster)

        threads = [threading.Thread(target=work, args=(cluster,)) for cluster in (one, two, one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) + len(busy) == 160
        assert {id(c) for c in done} == {id(one), id(two)}
        # Whoever holds the turn makes all others busy.
        stream = one.stream(THETA)
        with pytest.raises(cgc.ClusterBusy):
            one.gradient(THETA)
        stream.close()
        assert_exact(one.gradient(THETA), one)


def test_close_from_another_thread_ends_the_wait():
    cluster = never_answering()
    assert_exact(cluster.gradient(THETA), cluster)
    threading.Timer(0.2, cluster.close).start()
    with pytest.raises(cgc.ClusterClosed):
        cluster.gradient(THETA)
    with pytest.raises(cgc.ClusterClosed):
        cluster.gradient(THETA)


def test_close_races_with_the_beginning_of_iterations():
    chance = random.Random(0)
    for _ in range(6):
        cluster = plain_cluster(2)
        timer = threading.Timer(chance.uniform(0.0, 0.01), cluster.close)
        timer.start()

        def use(cluster=cluster):
            while True:
                assert_exact(cluster.gradient(THETA), cluster)

        with pytest.raises(cgc.ClusterClosed):
            use()
        timer.join()


def test_closing_twice_from_many_threads():
    cluster = plain_cluster()
    cluster.submit(THETA)
    threads = [threading.Thread(target=cluster.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cluster.close()
    assert cluster.closed


def test_in_an_event_loop_as_in_a_notebook():
    async def use():
        with plain_cluster() as cluster:
            for _ in range(5):
                covered = np.zeros(COORDINATES)
                gradient = np.full(COORDINATES, np.nan)
                async for block in cluster.stream(THETA):
                    covered[block.coordinates] += 1
                    gradient[block.coordinates] = block.values
                assert (covered == 1).all()
                assert_exact(gradient, cluster)
            assert_exact(await asyncio.wrap_future(cluster.submit(THETA)), cluster)

    asyncio.run(use())


def test_cancelling_a_task_ends_the_iteration():
    async def use():
        with never_answering() as cluster:
            assert_exact(cluster.gradient(THETA), cluster)

            async def consume():
                async for _ in cluster.stream(THETA):
                    pass

            task = asyncio.create_task(consume())
            await asyncio.sleep(0.2)
            with pytest.raises(cgc.ClusterBusy):
                cluster.gradient(THETA)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert_exact(cluster.gradient(THETA), cluster)

    asyncio.run(use())
