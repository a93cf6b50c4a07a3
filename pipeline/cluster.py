"""Ray, started here or joined: whether it has room for what waits, and whether it is still there."""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from pipeline.config import Runtime
from pipeline.interrupts import end_with, heed, listen
from pipeline.stages.base import StageError

LOGICAL_CPUS = 8
"""What a Ray started here is told that it has at least: ray.data.llm reserves about six for stages that hardly use them."""
HEAD, HERE = "head (GCS)", "raylet of this machine"
GONE_S = {HEAD: 30.0, HERE: 6.0}
"""A server that takes no connection for so long is lost: a head may be started again, the other never is. Ray itself waits for
the other for ever, and ends our process without a word when the head was gone for 60 s."""
LOOK_S = 2.0
EVERYWHERE_S = 60.0


@dataclass(frozen=True)
class Cluster:
    """The Ray of a build; `share` is how many logical CPUs a busy one counts for, `cores` those of a Ray started here."""

    share: int = 1
    cores: int | None = None

    @property
    def is_ours(self) -> bool:
        return self.cores is not None

    def logical(self, cpus: float) -> float:
        """What a task that uses so many CPUs is to reserve: here no more than there are, so that a cluster's config runs here too."""
        return self.share * min(cpus, self.cores or cpus)


@contextmanager
def joined(runtime: Runtime) -> Iterator[Cluster]:
    """Ray, started here or joined."""
    address = runtime.ray
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "local"
    cluster = Cluster()
    if address == "local":
        cores = runtime.cpus or os.cpu_count() or 1
        cluster = Cluster(-(-LOGICAL_CPUS // cores), cores)
        _start(cluster.share * cores)
    else:
        _join(address)
    listen()  # ray.init has set a handler of SIGTERM
    try:
        with _watched(address):
            yield cluster
    finally:
        ray.shutdown()


@retry(stop=stop_after_attempt(2), retry=retry_if_exception_type(StageError), reraise=True)
def _start(logical_cpus: int) -> None:
    """Start Ray here; it gives its servers 30 seconds to come up, which a busy machine may not be able to keep."""
    try:
        ray.init(address="local", num_cpus=logical_cpus, include_dashboard=False, logging_level="warning")
    except Exception as cause:  # Ray has no class of its own for it
        ray.shutdown()
        raise StageError(
            f"runtime.ray: Ray did not start here ({cause}); is the machine overloaded, or out of memory or disk? "
            "The same command goes on where this one stopped"
        ) from cause


def _join(address: str) -> None:
    try:
        ray.init(address=address, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError) as cause:
        raise StageError(
            f"runtime.ray or RAY_ADDRESS: no cluster answers at {address} ({cause}); --set runtime.ray=local starts one here"
        ) from cause


@contextmanager
def _watched(address: str) -> Iterator[None]:
    """End the build with one message where Ray's servers are gone: calls that wait for them would wait for ever."""
    if address.startswith("ray://"):  # a client sees its proxy alone, which ends its calls itself
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(_servers(), over), name="ray-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


def _servers() -> dict[str, tuple[str, int]]:
    """Where the head and our own machine's part of Ray take connections."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return {
        HEAD: (host.strip("[]"), int(port)),
        HERE: (here["NodeManagerAddress"], here["NodeManagerPort"]),
    }


def _watch(servers: Mapping[str, tuple[str, int]], over: threading.Event) -> None:
    heard = dict.fromkeys(servers, time.monotonic())
    while not over.wait(LOOK_S):
        for name, address in servers.items():
            if _listens(address):
                heard[name] = time.monotonic()
            elif time.monotonic() - heard[name] > GONE_S[name] and not over.is_set():
                end_with(_lost(name, address))
                return


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=LOOK_S).close()
    except OSError:
        return False
    return True


def _lost(name: str, address: tuple[str, int]) -> StageError:
    host, port = address
    return StageError(
        f"Ray's {name} at {host}:{port} is gone: nothing has answered there for {GONE_S[name]:g} s. What is committed stays; start Ray "
        "again where it was not started here, and run the same command to go on"
    )


def everywhere(function: Callable[..., Any], *arguments: Any) -> None:
    """Call it once on each machine that is here. What comes of it is not waited for beyond a minute, nor told."""
    on = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    call = ray.remote(num_cpus=0, max_retries=0)(function)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    calls = [call.options(scheduling_strategy=on(node, soft=False)).remote(*arguments) for node in nodes]
    ray.wait(calls, num_returns=len(calls), timeout=EVERYWHERE_S)


Resources = Mapping[str, float]


@dataclass(frozen=True)
class Patience:
    """How long a build waits for room: it says so every `wait_s` seconds, and gives up after `give_up_s` (None: never)."""

    wait_s: float
    give_up_s: float | None
    tell: Callable[[str], None]
    is_ours: bool = False


class Waiting:
    """Something that waits for these resources on one machine, and since when."""

    def __init__(self, what: str, wants: Resources, patience: Patience, error: type[Exception]) -> None:
        self.what, self.wants, self.patience, self.error = what, wants, patience, error
        self.began = time.monotonic()
        self.told = 0

    def look(self) -> None:
        """Say what it waits for, when it is time; raise `error` where that has been for too long."""
        waited = time.monotonic() - self.began
        if self.patience.give_up_s is not None and waited >= self.patience.give_up_s:
            raise self.error(f"{self._said(waited)}; given up (runtime.give_up_s)")
        if waited >= (self.told + 1) * self.patience.wait_s:
            self.told += 1
            self.patience.tell(self._said(waited))

    def _said(self, waited: float) -> str:
        return f"{self.what}: has waited {waited:.0f} s for {written(self.wants)}: {_why_not(self.wants)}"


def await_room(what: str, bundles: Sequence[Resources], patience: Patience, error: type[Exception]) -> None:
    """Wait until there is room for these bundles at once. A Ray started here will never have more than it has."""
    if patience.is_ours:
        wants: Counter[str] = Counter()
        for bundle in bundles:
            wants.update(bundle)
        if lack := shortage(wants):
            raise error(f"{what}: wants {written(wants)}: {lack}")
        return
    group = ray.util.placement_group([dict(bundle) for bundle in bundles], strategy="PACK")
    waiting = Waiting(what, bundles[0], patience, error)
    try:
        while not group.wait(timeout_seconds=min(2, patience.wait_s)):
            heed()
            waiting.look()
    finally:
        ray.util.remove_placement_group(group)


@contextmanager
def kept_room(what: str, wants: Resources, patience: Patience, error: type[Exception]) -> Iterator[None]:
    """Meanwhile say so where no machine is left that could take these, and end the build with `error` after too long."""
    over = threading.Event()

    def look() -> None:
        waiting: Waiting | None = None
        while not over.wait(min(patience.wait_s, 10)):
            waiting = (waiting or Waiting(what, wants, patience, error)) if shortage(wants) else None
            try:
                if waiting:
                    waiting.look()
            except error as given_up:
                end_with(given_up)
                return

    if not patience.is_ours:
        threading.Thread(target=look, name="room", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def shortage(wants: Resources) -> str | None:
    """Why no machine could ever take a task that wants these; None where one can, be it busy."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(has.get(name, 0) >= amount for name, amount in wants.items()) for has in machines):
        return None
    most = {name: max((has.get(name, 0) for has in machines), default=0) for name in wants}
    return f"no machine has that, and the most that one of {len(machines)} has is {written(most)}"


def _why_not(wants: Resources) -> str:
    free, of = ray.available_resources(), ray.cluster_resources()
    taken = {name: f"{free.get(name, 0):g} of {of.get(name, 0):g} {name}" for name in wants if name != "memory"}
    return shortage(wants) or f"others have it, {', '.join(taken.values())} are free"


def written(wants: Resources) -> str:
    said = {name: f"{amount / 2**30:.1f} GiB memory" for name, amount in wants.items() if name == "memory"}
    return ", ".join(said.get(name, f"{amount:g} {name}") for name, amount in wants.items())
