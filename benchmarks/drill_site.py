"""What a drill breaks: three raylets, an object store on loopback with a gate before it, and a small disk for caches.

All of it on this machine; every process is ended by its id.
"""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

BUCKET = "drill"
KEY = "drill"
"""Of a server on loopback, which takes any."""
CACHE_MB = 1024


class Gate:
    """A TCP port that passes all on to another, until it is shut: then what is open breaks off, and nothing comes in."""

    def __init__(self, to: int) -> None:
        self.to, self.port = to, free_port()
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.open()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256, reuse_port=True)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        if self._listener:
            with suppress(OSError):  # wakes the thread that accepts
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open = []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                coming, _ = listener.accept()
                going = socket.create_connection(("127.0.0.1", self.to))
            except OSError:  # it was shut
                return
            self._open += [coming, going]
            for one, other in ((coming, going), (going, coming)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError), closing(one), closing(other):
        while sent := one.recv(65_536):
            other.sendall(sent)


class Site:
    """The cluster, the store and the caches of a drill. Node 0 is the head, which the driver stands on."""

    def __init__(self, cluster: Any, gate: Gate, folder: Path, *, has_small_disk: bool) -> None:
        self.cluster, self.gate, self.folder, self.has_small_disk = cluster, gate, folder, has_small_disk
        self.nodes: list[Any] = []

    @property
    def environment(self) -> dict[str, str]:
        """What the driver needs to reach it all."""
        return {**os.environ, **_keys(self.gate.url), "PAIRMILL_CACHE": str(self.cache(0)), "RAY_worker_niceness": "0"}

    def cache(self, number: int) -> Path:
        return self.folder / "caches" / str(number)

    def add(self, cpus: int) -> None:
        number = len(self.nodes)
        variables = {**_keys(self.gate.url), "PAIRMILL_CACHE": str(self.cache(number)), "RAY_worker_niceness": "0"}
        self.nodes.append(self.cluster.add_node(num_cpus=cpus, env_vars=variables, include_dashboard=False))

    def kill_node(self, cpus: int) -> None:
        """SIGKILL the last node's raylet with its workers; another takes its place."""
        node = self.nodes.pop()
        workers = psutil.Process(node.all_processes["raylet"][0].process.pid).children(recursive=True)
        self.cluster.remove_node(node, allow_graceful=False)
        for worker in workers:
            with suppress(psutil.Error):
                worker.kill()
        self.add(cpus)

    def clear_caches(self) -> None:
        """Remove what builds have left on the nodes' disk, which a driver does on its own machine alone."""
        for kept in (self.folder / "caches").glob("*/*"):
            shutil.rmtree(kept, ignore_errors=True)

    def workers(self) -> list[psutil.Process]:
        """The processes that are at work for Ray now."""
        raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in self.nodes]
        return [one for raylet in raylets for one in raylet.children(recursive=True) if _works(one)]

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """No byte more fits where caches are."""
        filler = self.folder / "caches" / "filler"
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        try:
            yield
        finally:
            filler.unlink()

    def files(self) -> Any:
        """The store, past the gate."""
        import fsspec

        return fsspec.filesystem(
            "s3",
            key=KEY,
            secret=KEY,
            endpoint_url=f"http://127.0.0.1:{self.gate.to}",
            use_listings_cache=False,
            skip_instance_cache=True,
        )


def _works(process: psutil.Process) -> bool:
    try:
        name = process.name()
    except psutil.Error:
        return False
    # Ray's own agents have such names too; a raylet ends with them.
    return name.startswith("ray::") and "IDLE" not in name and not name.endswith("Agent")


def _keys(url: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def site(folder: Path, *, with_small_disk: bool = True) -> Iterator[Site]:
    """A site with a head of no CPUs and two nodes of two."""
    from ray.cluster_utils import Cluster

    with ExitStack() as stack:
        gate = Gate(stack.enter_context(store_server(folder / "store.log")))
        has_small_disk = with_small_disk and stack.enter_context(small_disk(folder / "caches"))
        cluster = Cluster()
        stack.callback(cluster.shutdown)
        it = Site(cluster, gate, folder, has_small_disk=has_small_disk)
        for cpus in (0, 2, 2):
            it.add(cpus)
        it.files().mkdir(BUCKET)
        yield it


@contextmanager
def store_server(log: Path) -> Iterator[int]:
    """An S3 server on a port of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            _wait_for(port)
            yield port
        finally:
            process.terminate()


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of CACHE_MB megabytes where one may be mounted, else a plain folder."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={CACHE_MB}m", "tmpfs", str(folder)]
    is_mounted = not subprocess.run(command, capture_output=True, check=False).returncode
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(300):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    sys.exit(f"nothing answers on port {port}")
