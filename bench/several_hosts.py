"""Several hosts for real: Ray or MPI over TCP between network namespaces of this machine.

Each host is a network namespace of its own, joined to the others by veth pairs and a switch in user space,
which delays every frame (`delaying_switch.py`: many kernels have no netem), with the bandwidth that ``tc
tbf`` leaves it. The master's host runs the head of a Ray cluster, each other one a node with one worker; or
each runs one rank of an MPI job. Measured, with emulated cycle times:

1. the delay of a message, there and back: iterations with nothing to compute;
2. the mean iteration time against `simulate` on the same draws with that delay added: within 15 %;
3. the same with one host slowed by its bandwidth, for a coded and the uncoded schedule;
4. over Ray, one host cut off in mid-iteration: the gradient is exact all the same. MPI would end the job.

Exits non-zero if a gradient is not exact or if 2. is missed. Needs Linux, root, iproute2, and
``pip install 'cgc_fast[ray]'`` or ``'cgc_fast[mpi]'``. Nothing outside the namespaces is addressed, and they,
with all processes in them, are gone in the end.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import stats

from bench_overhead import mpiexec

PREFIX = f"cgc{os.getpid() % 100_000}"
PORT = 6399
PLACE = '{"place": 1}'
BUDGET = 1.15
# The network is private, and gone in a minute: no tokens.
ENVIRONMENT = {
    **os.environ,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
}


def address(host):
    return f"10.77.0.{host + 1}"


def inside(host):
    return ["ip", "netns", "exec", f"{PREFIX}-{host}"]


def sh(command, check=True):
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.strip()}")
    return done.returncode == 0


class Network:
    """Namespaces PREFIX-0, -1, ... and PREFIX-hub, which has the switch between them."""

    def __init__(self, hosts, delay_ms):
        self.hosts, self.delay_ms = hosts, delay_ms
        self.switch = None

    def __enter__(self):
        hub = f"{PREFIX}-hub"
        sh(f"ip netns add {hub}")
        for host in range(self.hosts):
            name, port = f"{PREFIX}-{host}", f"port{host}"
            sh(f"ip netns add {name}")
            sh(f"ip -n {name} link add eth0 type veth peer name {port} netns {hub}")
            sh(f"ip -n {hub} link set {port} up")
            sh(f"ip -n {name} addr add {address(host)}/24 dev eth0")
            sh(f"ip -n {name} link set lo up")
            sh(f"ip -n {name} link set eth0 up")
        ports = [f"port{host}" for host in range(self.hosts)]
        script = Path(__file__).with_name("delaying_switch.py")
        command = ["ip", "netns", "exec", hub, sys.executable, script, str(self.delay_ms), *ports]
        # As a wire: it does not wait for a core.
        self.switch = subprocess.Popen(command, preexec_fn=lambda: os.nice(-15))
        return self

    def __exit__(self, *_):
        if self.switch is not None:
            self.switch.kill()
            self.switch.wait()
        for host in range(self.hosts):  # whatever is left there
            pids = subprocess.run(["ip", "netns", "pids", f"{PREFIX}-{host}"], capture_output=True, text=True)
            for pid in map(int, pids.stdout.split()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for name in [*range(self.hosts), "hub"]:
            sh(f"ip netns del {PREFIX}-{name}", check=False)

    def limit(self, host, mbit):
        """Let a host send, and be sent, so many Mbit/s."""
        for where, device in ((f"{PREFIX}-{host}", "eth0"), (f"{PREFIX}-hub", f"port{host}")):
            sh(f"tc -n {where} qdisc del dev {device} root", check=False)
            sh(f"tc -n {where} qdisc add dev {device} root tbf rate {mbit}mbit burst 64kb latency 400ms")

    def cut_off(self, host):
        sh(f"ip -n {PREFIX}-hub link set port{host} down")


def round_trip_ms():
    """Of one byte over TCP, between the first two hosts: the median of 20."""
    echo = f"""if True:
        import socket
        peer, _ = socket.create_server(("{address(1)}", {PORT})).accept()
        while byte := peer.recv(1):
            peer.sendall(byte)"""
    ask = f"""if True:
        import socket, statistics, time
        peer = socket.create_connection(("{address(1)}", {PORT}))
        def there_and_back():
            began = time.perf_counter()
            peer.sendall(b"x")
            peer.recv(1)
            return 1e3 * (time.perf_counter() - began)
        print(statistics.median(there_and_back() for _ in range(20)))"""
    with subprocess.Popen([*inside(1), sys.executable, "-c", echo]) as other:
        time.sleep(1)
        done = subprocess.run([*inside(0), sys.executable, "-c", ask], capture_output=True, text=True)
        other.kill()
    return float(done.stdout)


@contextlib.contextmanager
def ray_nodes(hosts, folder):
    """A node of Ray a host; the first is the head and has no worker."""
    ray = Path(sys.executable).with_name("ray")
    nodes = []
    try:
        for host in range(hosts):
            command = f"exec {sys.executable} {ray} start --block --disable-usage-stats "
            command += f"--node-ip-address={address(host)} --object-store-memory=150000000 "
            alone = []
            if host == 0:
                command += f"--head --port={PORT} --num-cpus=0 --include-dashboard=false --temp-dir={folder}"
            else:  # with a disk of its own, as hosts have
                alone = ["unshare", "--mount"]
                command += f"--address={address(0)}:{PORT} --num-cpus=1 --resources='{PLACE}'"
                command = f"mount -t tmpfs none {folder} && {command}"
            log = open(Path(folder) / f"node{host}.log", "w")  # noqa: SIM115
            nodes.append(
                subprocess.Popen(
                    [*inside(host), *alone, "sh", "-c", command],
                    stdout=log,
                    stderr=log,
                    env=ENVIRONMENT,
                    start_new_session=True,
                )
            )
            if host == 0:
                time.sleep(8)
        yield
    finally:
        for node in nodes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGTERM)
        for node in nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.wait(10)


def on_hosts(hosts, folder):
    """Begin a command that starts one rank a host, from the first; each host has a name of its own."""
    agent = Path(folder) / "start_on"  # instead of ssh: an address, and what is to be run there
    agent.write_text(
        "#!/bin/sh\n"
        "host=$(( ${1##*.} - 1 )); shift\n"
        f'exec ip netns exec {PREFIX}-$host unshare --uts sh -c "hostname host$host; $*"\n'
    )
    agent.chmod(0o700)
    network = f"{address(0)}/24"
    return [
        *inside(0),
        *["unshare", "--uts", "sh", "-c", 'hostname host0; exec "$@"', "sh"],
        *[mpiexec(), "--allow-run-as-root", "-n", str(hosts)],
        *["--host", ",".join(f"{address(host)}:1" for host in range(hosts))],
        *["--prtemca", "plm_ssh_agent", str(agent), "--prtemca", "prte_if_include", network],
        *["--mca", "pml", "ob1", "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", network],
    ]


# --- the master, on the first host -------------------------------------------------------------------------


def master_of_ray(workers, iterations):
    import ray

    ray.init(address=f"{address(0)}:{PORT}", log_to_driver=False, _node_ip_address=address(0))
    deadline = time.monotonic() + 120
    while ray.cluster_resources().get("place", 0) < workers:
        assert time.monotonic() < deadline, f"nodes missing: {ray.cluster_resources()}"
        time.sleep(0.5)
    return master("ray", workers, iterations, {"num_cpus": 1, "resources": {"place": 1}})


def master_of_mpi(workers, iterations):
    from cgc_fast.engines import mpi

    # The namespaces of the network have one /proc, in which ranks would find each other's memory.
    options = {"share_memory": False}
    return mpi.run(lambda: master("mpi", workers, iterations, options)) or 0


def master(engine, workers, iterations, options):
    import cgc_fast as cgc

    def tell(what):
        """Let the script outside the namespaces do something, and wait until it has."""
        print(what, flush=True)
        assert sys.stdin.readline().strip() == what

    generator = np.random.default_rng(0)
    problem = cgc.problems.SoftmaxRegression(
        generator.normal(size=(120, 500)), generator.integers(0, 10, 120), classes=10
    )
    coordinates, samples = problem.coordinates, problem.samples
    slowest = 0.05 + sum(1.0 / k for k in range(1, workers + 1))
    scale = 1.0 / (samples / workers * coordinates * slowest)
    law = stats.expon(loc=0.05 * scale, scale=scale)
    draws = law.rvs(size=(iterations, workers), random_state=generator)
    theta = generator.normal(size=coordinates) / 100
    expected = problem.gradient(theta)
    exact = True

    def cluster_of(schedule, cycle_times):
        return cgc.Cluster(
            schedule,
            problem,
            engine=engine,
            cycle_times=cycle_times,
            forward_cycles=0,
            engine_options=options,
        )

    def schedule_of(**how):
        return cgc.plan(workers, coordinates, law, samples=samples, **how).schedule()

    def is_exact(gradient):
        return abs(gradient - expected).max() <= 1e-9 * abs(expected).max() * workers

    def times_of(schedule, cycle_times):
        nonlocal exact
        taken = []
        with cluster_of(schedule, cycle_times) as cluster:
            for _ in range(len(cycle_times)):
                exact &= is_exact(cluster.gradient(theta))
                taken.append(cluster.last_report.elapsed_s)
        return np.array(taken)

    uncoded, blocks = schedule_of(method="uncoded"), schedule_of(min_redundancy=1)
    nothing = np.full((iterations, workers), 1e-12)
    delay_s = float(np.median(times_of(blocks, nothing)[3:]))
    print(f"delay of a message, there and back: {1e3 * delay_s:.1f} ms", flush=True)
    missed = False
    for name, schedule in (("uncoded", uncoded), ("cyclic blocks", blocks)):
        simulated = cgc.simulate(schedule, draws, samples=samples, delay=delay_s).mean()
        plain = cgc.simulate(schedule, draws, samples=samples).mean()
        measured = times_of(schedule, draws).mean()
        missed |= not 1 / BUDGET <= measured / simulated <= BUDGET
        print(
            f"{name:<14} simulated {plain:.3f} s, with the delay {simulated:.3f} s, "
            f"measured {measured:.3f} s, ratio {measured / simulated:.3f}",
            flush=True,
        )
    tell("slow")
    even = np.full((iterations, workers), 0.1 * scale)
    for name, schedule in (("uncoded", uncoded), ("cyclic blocks", blocks)):
        print(f"one host slowed: {name:<14} {np.median(times_of(schedule, even)):.3f} s", flush=True)
    tell("even")

    if engine == "ray":
        cycle_times = np.full((1000, workers), 0.1 * scale)
        cycle_times[1] = scale
        with cluster_of(blocks, cycle_times) as cluster:
            exact &= is_exact(cluster.gradient(theta))
            stream = cluster.stream(theta)
            tell("cut")
            gradient = np.zeros(coordinates)
            for block in stream:
                gradient[block.coordinates] = block.values
            exact &= is_exact(gradient)
            print(f"one host cut off in mid-iteration: {cluster.last_report.elapsed_s:.3f} s", flush=True)
            for _ in range(20):
                exact &= is_exact(cluster.gradient(theta))
            print(f"the next: {cluster.last_report.elapsed_s:.3f} s", flush=True)
            print(cluster.health(), flush=True)
    print(f"all gradients exact: {exact}; measured over simulated within 15 %: {not missed}", flush=True)
    return int(missed or not exact)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["ray", "mpi"], default="ray")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=15)
    parser.add_argument("--mbit", type=int, default=200, help="bandwidth of each host")
    parser.add_argument("--slow-mbit", type=int, default=1, help="bandwidth of the host that is slowed")
    parser.add_argument("--delay-ms", type=float, default=5, help="of every frame, each way")
    parser.add_argument("--master", action="store_true", help="for the process that this starts")
    options = parser.parse_args()
    if options.master:
        of_engine = {"ray": master_of_ray, "mpi": master_of_mpi}[options.engine]
        return of_engine(options.workers, options.iterations)
    package = {"ray": "ray", "mpi": "mpi4py"}[options.engine]
    if os.geteuid() != 0 or shutil.which("tc") is None or importlib.util.find_spec(package) is None:
        print(f"needs Linux, root, iproute2 and {package}: nothing done")
        return 2
    last = options.workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # clean up then, too
    hosts = options.workers + 1
    with Network(hosts, options.delay_ms) as network, tempfile.TemporaryDirectory(prefix="cgc") as folder:
        for host in range(hosts):
            network.limit(host, options.mbit)
        print(
            f"{options.workers} worker hosts and the master's, {options.mbit} Mbit/s each, "
            f"{options.delay_ms} ms each way; a byte there and back takes {round_trip_ms():.1f} ms",
            flush=True,
        )
        with ray_nodes(hosts, folder) if options.engine == "ray" else contextlib.nullcontext():
            start = inside(0) if options.engine == "ray" else on_hosts(hosts, folder)
            command = [*start, sys.executable, *sys.argv, "--master"]
            with subprocess.Popen(
                command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            ) as process:
                for line in process.stdout:
                    word = line.strip()
                    if word == "slow":
                        network.limit(last, options.slow_mbit)
                    elif word == "even":
                        network.limit(last, options.mbit)
                    elif word == "cut":
                        network.cut_off(last)
                    else:
                        print(line, end="", flush=True)
                        continue
                    process.stdin.write(f"{word}\n")
                    process.stdin.flush()
                return process.wait()


if __name__ == "__main__":
    sys.exit(main())
