"""
Compiled core of cgc_fast.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
import typing_extensions
__all__: list[str] = ['Board', 'BoundaryCrossing', 'Collector', 'CompiledSchedule', 'CoverTimes', 'CyclicDecoder', 'HEADER_VALUES', 'LinearModel', 'MessageWalk', 'Signal', 'SubgradientIterations', 'Walker', 'all_finite', 'are_vectors', 'build_info', 'cyclic_coefficients', 'decode_in_order', 'group_times', 'largest_deviation', 'leave_with', 'level_runtimes', 'mean_maximum', 'minimise_on_simplex', 'monotonic_ns', 'plain_sum', 'project_onto_simplex', 'push_run', 'seconds_per_weighted_sum', 'sleep_precisely', 'weighted_sum']
class SubgradientIterations:
    """
    Projected stochastic subgradient iterations for the expected runtime [WANG22]; one thread at a time.
    """
    def __init__(self, work: numpy.typing.NDArray[numpy.float64], start: numpy.typing.NDArray[numpy.float64], step: typing.SupportsFloat | typing.SupportsIndex, power: typing.SupportsFloat | typing.SupportsIndex) -> None:
        ...
    def run(self, times: numpy.typing.NDArray[numpy.float64], batch: typing.SupportsInt | typing.SupportsIndex, averaging: bool) -> numpy.typing.NDArray[numpy.float64]:
        """
        One pass over times (D, K) in batches; returns the batch means of the runtime (D // batch,).
        """
    @property
    def average(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        Mean of the averaged iterates (K,), or the iterate itself if there are none.
        """
    @property
    def iterate(self) -> numpy.typing.NDArray[numpy.float64]:
        """
        The current iterate (K,), a copy.
        """
class BoundaryCrossing:
    """
    Probability that N sorted uniforms stay below rising bounds [MOSCOVICH17]; one thread at a time.
    """
    def __init__(self, points: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def coupling(self, bounds: numpy.typing.NDArray[numpy.float64], dropped: numpy.typing.NDArray[numpy.float64], onward: numpy.typing.NDArray[numpy.float64], scale: numpy.typing.NDArray[numpy.float64], weights: numpy.typing.NDArray[numpy.float64], used: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
        """
        Sum over the rows of weights[row] scale_j scale_k d2P/db_j db_k / N^2 for the bounds j < k < used (used, used), to the few digits that a Newton step needs; O(B used^3).
        """
    def evaluate(self, bounds: numpy.typing.NDArray[numpy.float64], complements: numpy.typing.NDArray[numpy.float64], tail: bool = False, derivatives: bool = False) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64]]:
        """
        For every row of bounds (B, N), rising, and complements 1 - bounds: P[U_(k) <= b_k for all k] (B,), 1 - P (B,), the probability dropped_k (B, N) of missing b_k first, in the Poisson process of rate N, and, with derivatives, onward_k (B, N), so that dP/db_k = N dropped_k onward_k. `tail`: 1 - P to relative accuracy however small it is. About O(B N^1.5).
        """
    def second_order(self, bounds: numpy.typing.NDArray[numpy.float64], complements: numpy.typing.NDArray[numpy.float64]) -> tuple[float, float, numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64]]:
        """
        For one boundary (N,): P, 1 - P to relative accuracy, dP/db_k (N,), and d2P/db_j db_k (N, N) to the few digits that a Newton step needs; about O(N^3).
        """
class CyclicDecoder:
    """
    Decoding vectors of one cyclic code; safe to share between threads.
    """
    def __init__(self, h: numpy.typing.NDArray[numpy.float64], coefficients: numpy.typing.NDArray[numpy.float64]) -> None:
        ...
    def decode(self, rows: numpy.typing.NDArray[numpy.int64]) -> tuple[numpy.typing.NDArray[numpy.float64], float]:
        """
        The least-norm decoding vector of distinct rows and its predicted error.
        """
    def predicted_error(self, rows: numpy.typing.NDArray[numpy.int64], vector: numpy.typing.NDArray[numpy.float64], single: bool = False) -> float:
        """
        Predicted error of decoding float64 payloads of these rows with this vector; single: payloads that are rounded to float32 once.
        """
    def profile(self, stragglers: numpy.typing.NDArray[numpy.int64], threads: typing.SupportsInt | typing.SupportsIndex = 1, single: bool = False) -> numpy.typing.NDArray[numpy.float64]:
        """
        Predicted error of the decoding vector of all rows but those of each straggler set.
        """
class LinearModel:
    """
    Partial derivatives of a generalised linear model over the samples of the ranges held.
    
    Keeps references to features (n, D), targets (n,) and, from one begin to the next, theta (classes * D,)
    and reads them in place: they must not change. Not thread-safe; releases the GIL.
    """
    def __init__(self, loss: str, classes: typing.SupportsInt | typing.SupportsIndex, features: numpy.typing.NDArray[numpy.float64], targets: numpy.typing.NDArray[numpy.float64], held: numpy.typing.NDArray[numpy.int64]) -> None:
        """
        loss: squares, logistic or softmax; held: int64 (H, 2), merged sample ranges, n samples in all.
        """
    def begin(self, theta: numpy.typing.NDArray[numpy.float64]) -> None:
        """
        Start an iteration at theta; forget all residuals.
        """
    def derivatives(self, start: typing.SupportsInt | typing.SupportsIndex, stop: typing.SupportsInt | typing.SupportsIndex, ranges: numpy.typing.NDArray[numpy.int64], coefficients: numpy.typing.NDArray[numpy.float64], out: numpy.typing.NDArray[numpy.float64]) -> None:
        """
        out[k] = sum_r coefficients[r] * sum_{i in ranges[r]} d f_i / d theta_{start+k}.
        """
    def derivatives_part(self, start: typing.SupportsInt | typing.SupportsIndex, stop: typing.SupportsInt | typing.SupportsIndex, begin: typing.SupportsInt | typing.SupportsIndex, end: typing.SupportsInt | typing.SupportsIndex, ranges: numpy.typing.NDArray[numpy.int64], coefficients: numpy.typing.NDArray[numpy.float64], out: numpy.typing.NDArray[numpy.float64]) -> None:
        """
        Part [begin, end) of what `derivatives` writes into out (stop - start,), counted in columns of features; calls for consecutive parts complete it.
        """
    def forward(self, ranges: numpy.typing.NDArray[numpy.int64]) -> None:
        """
        Compute the residuals of these samples that this iteration does not have yet.
        """
    def value(self, ranges: numpy.typing.NDArray[numpy.int64], coefficients: numpy.typing.NDArray[numpy.float64]) -> float:
        """
        sum_r coefficients[r] * sum_{i in ranges[r]} f_i(theta).
        """
class CompiledSchedule:
    """
    A schedule as flat arrays; immutable.
    """
    def __init__(self, *, offsets: numpy.typing.NDArray[numpy.int64], cells: numpy.typing.NDArray[numpy.int64], rows: numpy.typing.NDArray[numpy.int64], fractions: numpy.typing.NDArray[numpy.float64], interval_offsets: numpy.typing.NDArray[numpy.int64], lows: numpy.typing.NDArray[numpy.float64], highs: numpy.typing.NDArray[numpy.float64], widths: numpy.typing.NDArray[numpy.int64], ranges: numpy.typing.NDArray[numpy.int64], required_rows: numpy.typing.NDArray[numpy.int64]) -> None:
        """
        Visits (V,) of all walks, worker after worker, with the sample intervals of their rows, and the table of cells (C,). Copies what it needs.
        """
    def arrival_cycles(self, samples: typing.SupportsFloat | typing.SupportsIndex, cycles_per_derivative: typing.SupportsFloat | typing.SupportsIndex, forward_cycles: typing.SupportsFloat | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
        """
        Cumulative cycles (V,) of each worker at the end of each of its visits, nothing skipped.
        """
    def simulate(self, feedback: str, samples: typing.SupportsFloat | typing.SupportsIndex, cycles_per_derivative: typing.SupportsFloat | typing.SupportsIndex, forward_cycles: typing.SupportsFloat | typing.SupportsIndex, cycle_times: numpy.typing.NDArray[numpy.float64], delays: numpy.typing.NDArray[numpy.float64], latency: typing.SupportsFloat | typing.SupportsIndex, details: bool, threads: typing.SupportsInt | typing.SupportsIndex = 1) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64]]:
        """
        Runtime (S,), decode times (S, cells) and values sent (S, workers) of draws (S, workers); the last two have no rows unless `details`.
        """
class CoverTimes:
    """
    When groups of workers have walked around their blocks, without feedback; immutable.
    """
    def __init__(self, *, groups: numpy.typing.NDArray[numpy.int64], starts: numpy.typing.NDArray[numpy.float64], backward: numpy.typing.NDArray[numpy.int64]) -> None:
        """
        Group, start in [0, 1) and direction (not 0: backward) of every worker at every level (K, N).
        """
    def run(self, times: numpy.typing.NDArray[numpy.float64], begin: numpy.typing.NDArray[numpy.float64], around: numpy.typing.NDArray[numpy.float64], slopes: bool) -> tuple[numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64]]:
        """
        Runtime (S,) of times (S, N) when workers set out after `begin` (K, N) cycles and go around in `around` (K, N) more; sums over the draws of its derivatives by these two (K, N), without rows unless `slopes`.
        """
class Board:
    """
    What workers learn of each other during an iteration, laid over shared memory: which cells are announced, claimed, committed.
    """
    @staticmethod
    def bytes(workers: typing.SupportsInt | typing.SupportsIndex, cells: typing.SupportsInt | typing.SupportsIndex) -> int:
        ...
    def __init__(self, memory: typing_extensions.Buffer, workers: typing.SupportsInt | typing.SupportsIndex, cells: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def all_taken(self, iteration: typing.SupportsInt | typing.SupportsIndex, cells: numpy.typing.NDArray[numpy.int64]) -> bool:
        """
        Whether that is so of all these cells.
        """
    def announce(self, iteration: typing.SupportsInt | typing.SupportsIndex, cell: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Say that a cell is decoded.
        """
    def claim_again(self, iteration: typing.SupportsInt | typing.SupportsIndex, cells: numpy.typing.NDArray[numpy.int64]) -> int:
        """
        Claim the cell with the fewest claimants among those not taken: its index, or -1.
        """
    def claim_free(self, iteration: typing.SupportsInt | typing.SupportsIndex, cells: numpy.typing.NDArray[numpy.int64], begin: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Claim the first of cells[begin:] that nobody has claimed: its index, or len(cells).
        """
    def claimants(self, iteration: typing.SupportsInt | typing.SupportsIndex, cell: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        How many have claimed a cell.
        """
    def commit(self, iteration: typing.SupportsInt | typing.SupportsIndex, worker: typing.SupportsInt | typing.SupportsIndex, generation: typing.SupportsInt | typing.SupportsIndex, cell: typing.SupportsInt | typing.SupportsIndex) -> bool:
        """
        Whether the cell may enter the worker's sum of this generation.
        """
    def committed_by(self, iteration: typing.SupportsInt | typing.SupportsIndex, cell: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        Whose commitment of a cell holds: a worker, or -1.
        """
    def generation(self, worker: typing.SupportsInt | typing.SupportsIndex) -> int:
        ...
    def is_announced(self, iteration: typing.SupportsInt | typing.SupportsIndex, cell: typing.SupportsInt | typing.SupportsIndex) -> bool:
        ...
    def is_taken(self, iteration: typing.SupportsInt | typing.SupportsIndex, cell: typing.SupportsInt | typing.SupportsIndex) -> bool:
        """
        Whether a cell is announced, or committed and it holds.
        """
    def withdraw(self, worker: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        End the worker's generation: what it committed does not hold any longer.
        """
class Signal:
    """
    The signal between one master and its workers, laid over shared memory.
    """
    @staticmethod
    def bytes(workers: typing.SupportsInt | typing.SupportsIndex, capacity: typing.SupportsInt | typing.SupportsIndex) -> int:
        ...
    def __init__(self, memory: typing_extensions.Buffer, workers: typing.SupportsInt | typing.SupportsIndex, capacity: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    def announce_orders(self, worker: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Tell a worker that orders lie in its socket.
        """
    def cycle_time(self, worker: typing.SupportsInt | typing.SupportsIndex, iteration: typing.SupportsInt | typing.SupportsIndex) -> float:
        ...
    def finish(self, iteration: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Tell the workers that this iteration, and all before, are over.
        """
    def is_over(self, iteration: typing.SupportsInt | typing.SupportsIndex) -> bool:
        ...
    def look(self, worker: typing.SupportsInt | typing.SupportsIndex, iteration: typing.SupportsInt | typing.SupportsIndex, orders_seen: typing.SupportsInt | typing.SupportsIndex) -> str:
        """
        Look up between two slices: "go on", "over" or "orders".
        """
    def orders(self, worker: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        How many times orders were announced to a worker.
        """
    def pop_all(self, origin_ns: typing.SupportsInt | typing.SupportsIndex) -> list[tuple[int, int, int, bool, float, float]]:
        """
        Everything that arrived: (iteration, worker, slot, finite, began, ended), seconds since the origin.
        """
    def progress(self, reset: bool) -> list[tuple[int, int, int]]:
        """
        Signs of life of each worker: when it was last seen (or until when it said that it sleeps), the longest time between two of them since the last reset, and the last iteration that it took up.
        """
    def publish(self, iteration: typing.SupportsInt | typing.SupportsIndex, cycle_times: numpy.typing.NDArray[numpy.float64], with_value: bool, wake_fds: numpy.typing.NDArray[numpy.int32]) -> None:
        """
        Start an iteration and wake the workers that sleep.
        """
    def published(self) -> int:
        ...
    def published_ns(self, iteration: typing.SupportsInt | typing.SupportsIndex) -> int:
        ...
    def push(self, worker: typing.SupportsInt | typing.SupportsIndex, iteration: typing.SupportsInt | typing.SupportsIndex, slot: typing.SupportsInt | typing.SupportsIndex, finite: bool, began_ns: typing.SupportsInt | typing.SupportsIndex, ended_ns: typing.SupportsInt | typing.SupportsIndex, wake: bool, master_fd: typing.SupportsInt | typing.SupportsIndex) -> bool:
        """
        Say that a payload is complete, and wake the master if it sleeps and `wake`. False: the ring is full.
        """
    def renew(self, worker: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        Make a lane ready for the successor of a worker that is gone.
        """
    def sleep_until(self, worker: typing.SupportsInt | typing.SupportsIndex, iteration: typing.SupportsInt | typing.SupportsIndex, until_ns: typing.SupportsInt | typing.SupportsIndex, wake_fd: typing.SupportsInt | typing.SupportsIndex, orders_fd: typing.SupportsInt | typing.SupportsIndex) -> str:
        """
        Sleep until a moment, or until the iteration is over: why it ended.
        """
    def sleep_while_wanted(self, board: Board, worker: typing.SupportsInt | typing.SupportsIndex, iteration: typing.SupportsInt | typing.SupportsIndex, generation: typing.SupportsInt | typing.SupportsIndex, cell: typing.SupportsInt | typing.SupportsIndex, until_ns: typing.SupportsInt | typing.SupportsIndex, wake_fd: typing.SupportsInt | typing.SupportsIndex, orders_fd: typing.SupportsInt | typing.SupportsIndex, cells: numpy.typing.NDArray[numpy.int64] | None = None, slot: typing.SupportsInt | typing.SupportsIndex = 0, empty: bool = True, began_ns: typing.SupportsInt | typing.SupportsIndex = 0, master_fd: typing.SupportsInt | typing.SupportsIndex = -1) -> str:
        """
        The same, also until the cell of the visit under way is taken, or the generation that it was begun in has passed. If it is taken and so are all `cells`, a sum is pushed as `slot`: "answered".
        """
    def stop(self, wake_fds: numpy.typing.NDArray[numpy.int32]) -> None:
        """
        Tell the workers to leave.
        """
    def wait(self, fds: numpy.typing.NDArray[numpy.int32], timeout_s: typing.SupportsFloat | typing.SupportsIndex = -1.0) -> list[int]:
        """
        Sleep until something arrives or one of fds[1:] fires; their indices come back. A signal handler of Python runs before the return.
        """
    def wait_for_iteration(self, worker: typing.SupportsInt | typing.SupportsIndex, last: typing.SupportsInt | typing.SupportsIndex, wake_fd: typing.SupportsInt | typing.SupportsIndex, orders_fd: typing.SupportsInt | typing.SupportsIndex) -> tuple[str, int]:
        """
        Sleep until an iteration later than `last` is published: (why, iteration).
        """
    def walks(self, worker: typing.SupportsInt | typing.SupportsIndex) -> int:
        """
        How many iterations a worker has begun in the compiled core.
        """
    def with_value(self, iteration: typing.SupportsInt | typing.SupportsIndex) -> bool:
        """
        Whether the loss is asked for too.
        """
class Collector:
    """
    Receives and decodes an ordinary iteration on the master's side, without Python.
    """
    def __init__(self, signal: Signal, cells: collections.abc.Sequence[tuple[typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, typing.SupportsInt | typing.SupportsIndex, bool, bool, collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]]], blocks: numpy.typing.NDArray[numpy.int64], byte_offsets: list[typing.Annotated[numpy.typing.ArrayLike, numpy.int64]], payloads: list[typing.Annotated[numpy.typing.ArrayLike, numpy.float64]], even_theta: numpy.typing.NDArray[numpy.float64], odd_theta: numpy.typing.NDArray[numpy.float64], wake_fds: numpy.typing.NDArray[numpy.int32], fds: numpy.typing.NDArray[numpy.int32], forget: typing.SupportsFloat | typing.SupportsIndex) -> None:
        """
        cells: (start, stop, rows, rows required, plain, empty, blocks that it lies over) each; plain: any one row
        decodes with coefficient 1. blocks (B, 2); of each worker: byte_offsets (S,) of the payload of each
        row in its memory, negative for nowhere; that memory; where to put theta (L,) of even and of odd iterations. wake_fds, fds: as `Signal.publish`
        and `Signal.wait` take them, read anew at every call. forget: the factor by which an earlier silence counts less.
        """
    def collect(self, until_ns: typing.SupportsInt | typing.SupportsIndex, each_block: bool) -> str:
        """
        Receive, decode and sleep until there is a reason to come back: "done", "blocks" (new ones are complete),
        "vector" (a cell is pending), "late" (so much time has passed since the iteration began), "interrupted" or
        "unusual". A signal handler of Python runs before the return.
        """
    def completed(self) -> list[int]:
        """
        Complete blocks, in their order.
        """
    def contributors(self, cell: typing.SupportsInt | typing.SupportsIndex) -> list[int]:
        """
        Workers whose payloads a decoded cell was made of.
        """
    def decode(self, vector: numpy.typing.NDArray[numpy.float64]) -> None:
        """
        Decode it.
        """
    def drop_signs(self) -> None:
        """
        Forget the longest times so far.
        """
    def end(self) -> None:
        """
        End the iteration, complete or not: the workers abandon it, and it is counted.
        """
    def interrupt(self) -> None:
        """
        Make `collect` in another thread return.
        """
    def leave(self) -> None:
        """
        Zero what nothing was added to yet, for whoever goes on without the collector.
        """
    def pending(self) -> tuple[int, tuple[int, ...]]:
        """
        The cell that waits for its decoding vector, and which rows that is to be of, ascending.
        """
    def record(self) -> tuple[numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.int64]]:
        """
        Copies of what happened so far: arrivals (A, 6) in their order (iteration, worker, slot, finite, began_ns,
        ended_ns); when each cell (C,) was decoded and each block (B,) complete, 0: not yet.
        """
    def run(self, last: typing.SupportsInt | typing.SupportsIndex, within_ns: typing.SupportsInt | typing.SupportsIndex, iteration: typing.SupportsInt | typing.SupportsIndex, theta: numpy.typing.NDArray[numpy.float64], gradient: numpy.typing.NDArray[numpy.float64], with_value: bool, until_ns: typing.SupportsInt | typing.SupportsIndex | None) -> str | None:
        """
        Open all cells, publish the iteration at theta (L,), and fill the gradient (L,). None, and nothing has happened,
        unless all workers took up iteration `last`, or were seen so recently, and theta is finite. Without a moment, "begun"
        at once, else as `collect`.
        """
    def signs(self) -> list[tuple[int, int, int]]:
        """
        Signs of life as `all_well` found them, as `Signal.progress` gives them.
        """
    def take_ended(self) -> numpy.typing.NDArray[numpy.int64]:
        """
        A row for each iteration ended since the last call (E, 2 + 2 N): when it began, how long it took, how many
        payloads each worker delivered, and when it completed the last.
        """
    def take_heard(self) -> list[tuple[int, int]]:
        """
        Workers of which something has arrived since the last call, and the last iteration of it.
        """
    @property
    def began_ns(self) -> int:
        ...
    @property
    def delivered(self) -> list[int]:
        """
        How many payloads of the iteration each worker has delivered.
        """
    @property
    def elapsed_ns(self) -> int:
        ...
    @property
    def iteration(self) -> int:
        ...
    @property
    def loss(self) -> float:
        ...
class Walker:
    """
    A worker's loop over ordinary iterations of a linear model, without Python.
    """
    def __init__(self, signal: Signal, model: LinearModel, worker: typing.SupportsInt | typing.SupportsIndex, even_theta: numpy.typing.NDArray[numpy.float64], odd_theta: numpy.typing.NDArray[numpy.float64], visits: list[tuple[int, int, int, typing.Annotated[numpy.typing.ArrayLike, numpy.int64], typing.Annotated[numpy.typing.ArrayLike, numpy.float64]]], payloads: list[typing.Annotated[numpy.typing.ArrayLike, numpy.float64]], slice_s: typing.SupportsFloat | typing.SupportsIndex, soon_s: typing.SupportsFloat | typing.SupportsIndex, wake_fd: typing.SupportsInt | typing.SupportsIndex, orders_fd: typing.SupportsInt | typing.SupportsIndex, master_fd: typing.SupportsInt | typing.SupportsIndex) -> None:
        """
        visits: (slot, start, stop, ranges, coefficients) each, in the order of the walk; payloads: where the values of each
        go.
        """
    def serve(self, last: typing.SupportsInt | typing.SupportsIndex, orders_seen: typing.SupportsInt | typing.SupportsIndex) -> tuple[str, int, int, int, int, bool, int]:
        """
        Serve iterations later than `last` until something else than an ordinary one comes up: (why, the last
        iteration published, the last one begun here (0: none), of which so many visits are delivered and the
        next is computed up to this coordinate, whether it is over, when that visit began).
        
        why: "stopped", "iteration" (one with emulated cycle times), "orders", "interrupted", or "delivery" (a
        payload is complete that is not finite, or that the ring has no room for).
        """
class MessageWalk:
    """
    A worker's walk through an ordinary iteration of a linear model whose payloads lie behind headers, ready to be sent.
    """
    def __init__(self, model: LinearModel, visits: list[tuple[int, int, int, typing.Annotated[numpy.typing.ArrayLike, numpy.int64], typing.Annotated[numpy.typing.ArrayLike, numpy.float64]]], first_memory: numpy.typing.NDArray[numpy.float64], second_memory: numpy.typing.NDArray[numpy.float64], slice_s: typing.SupportsFloat | typing.SupportsIndex, soon_s: typing.SupportsFloat | typing.SupportsIndex) -> None:
        """
        visits: (slot, start, stop, ranges, coefficients) each, in the order of the walk. Two memories that payloads go to:
        one after the other, each behind a header of HEADER_VALUES values: iteration, whether it is finite, when it was
        begun and ended, in seconds since `begin`.
        """
    def begin(self, iteration: typing.SupportsInt | typing.SupportsIndex, memory: typing.SupportsInt | typing.SupportsIndex, theta: numpy.typing.NDArray[numpy.float64], with_value: bool) -> None:
        """
        Take an iteration up, at theta (L,), which is viewed until the next; its payloads go to the first memory (0) or the
        second (1).
        """
    def go_on(self) -> tuple[int, int, bool]:
        """
        Work until payloads are to be sent, or about a slice is over: those of the visits [first, stop), maybe none;
        whether the last of them is finite, as all others are.
        """
    @property
    def is_over(self) -> bool:
        """
        Whether every visit has been made.
        """
    @property
    def made(self) -> int:
        """
        How many visits have been made, from the first on.
        """
    @property
    def next_coordinate(self) -> int:
        """
        Up to where the payload of the visit under way is computed.
        """
    @property
    def visit_began_s(self) -> float:
        """
        When that visit was begun, in seconds since `begin`.
        """
def all_finite(values: typing.Any) -> bool:
    """
    Whether no value of a contiguous float64 or float32 array is NaN or infinite.
    """
def are_vectors(theta: typing.Any, gradient: typing.Any, length: typing.SupportsInt | typing.SupportsIndex) -> bool:
    """
    Whether both are contiguous, aligned arrays of float64 (length,), theta of no subclass, the gradient writable, and they lie apart.
    """
def build_info() -> dict[str, typing.Any]:
    """
    How the extension module was built (version, compiler, build type, C++ standard, architecture), which instruction set the kernels run with, which this machine could run, the fastest last, and whether kernels that may round once where others multiply and add do so.
    """
def cyclic_coefficients(h: numpy.typing.NDArray[numpy.float64]) -> numpy.typing.NDArray[numpy.float64]:
    """
    Encoding coefficients (N, s + 1) of the cyclic code that h (s, N) determines: row w on the parts w, ..., w + s (mod N).
    """
def decode_in_order(codes: collections.abc.Sequence[CyclicDecoder], order: numpy.typing.NDArray[numpy.int64]) -> tuple[numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.float64], numpy.typing.NDArray[numpy.float64]]:
    """
    Decoding vectors of many decoders for one order of arrival: sorted rows and vectors, one code after the other, and predicted errors.
    """
def group_times(times: numpy.typing.NDArray[numpy.float64], groups: numpy.typing.NDArray[numpy.int64], cycles: numpy.typing.NDArray[numpy.float64]) -> numpy.typing.NDArray[numpy.float64]:
    """
    Per draw and level (D, K), the slowest group's fastest member: times (D, N), groups (K,), cycles (K, N); worker w is in group floor(w g / N). O(D K N).
    """
def largest_deviation(values: typing.Any, expected: typing.SupportsFloat | typing.SupportsIndex) -> float:
    """
    max |values - expected|; see cgc_fast.combine.
    """
def leave_with(socket_fd: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    End this process as soon as the other end of the socket is closed.
    """
def level_runtimes(times: numpy.typing.NDArray[numpy.float64], cycles: numpy.typing.NDArray[numpy.float64]) -> numpy.typing.NDArray[numpy.float64]:
    """
    max_k times[:, k] * cycles[k] (D,), levels with cycles 0 left out; O(D K).
    """
def mean_maximum(times: numpy.typing.NDArray[numpy.float64], cycles: numpy.typing.NDArray[numpy.float64], mass: numpy.typing.NDArray[numpy.float64]) -> float:
    """
    Mean over the draws of max_k times[:, k] * cycles[k], times (D, K) finite, levels with cycles 0 left out; mass (K,) receives the mean of times where the maximum is at k, a subgradient with respect to cycles. O(D K).
    """
def minimise_on_simplex(gradient: numpy.typing.NDArray[numpy.float64], hessian: numpy.typing.NDArray[numpy.float64], accuracy: typing.SupportsFloat | typing.SupportsIndex, point: numpy.typing.NDArray[numpy.float64]) -> int:
    """
    Minimise gradient @ y + y @ hessian @ y / 2 over {y >= 0, sum y = 1}; hessian (n, n) symmetric, positive semidefinite; point (n,) holds the start, scaled to the sum 1, and receives y, above the least value by about `accuracy` at most. Returns the number of interior-point steps; O(n^3) each, in one thread.
    """
def monotonic_ns() -> int:
    """
    CLOCK_MONOTONIC in nanoseconds, the same in every process.
    """
def plain_sum(rows: typing.Any, out: typing.Any, accumulate: bool = False, threads: typing.SupportsInt | typing.SupportsIndex = 1) -> None:
    """
    out (+)= sum_i rows[i]; see cgc_fast.combine.
    """
def project_onto_simplex(point: numpy.typing.NDArray[numpy.float64], total: typing.SupportsFloat | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
    """
    Euclidean projection of point (K,) on {x >= 0, sum x = total}; O(K log K).
    """
def push_run(signal: Signal, worker: typing.SupportsInt | typing.SupportsIndex, memory: numpy.typing.NDArray[numpy.float64], places: numpy.typing.NDArray[numpy.int64], slots: numpy.typing.NDArray[numpy.int64], began_ns: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Enter payloads of these slots into the signal. Their headers lie in `memory` at `places`, in values; their seconds
    count from `began_ns`.
    """
def seconds_per_weighted_sum(rows: typing.Any, coefficients: typing.Any, out: typing.Any, repeats: typing.SupportsInt | typing.SupportsIndex) -> float:
    """
    Seconds that one of `repeats` weighted sums takes in here, without what the call from Python costs.
    """
def sleep_precisely() -> None:
    """
    Sleeps of this thread end as soon after their moment as the system can.
    """
def weighted_sum(rows: typing.Any, coefficients: typing.Any, out: typing.Any, accumulate: bool = False, threads: typing.SupportsInt | typing.SupportsIndex = 1) -> None:
    """
    out (+)= sum_i coefficients[i] * rows[i]; see cgc_fast.combine.
    """
HEADER_VALUES: int = 4
