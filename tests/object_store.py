"""An S3 server on loopback (moto, a process of its own), behind a gate that can be shut.

with ObjectStore() as store:
    os.environ |= store.environment
    store.gate.shut()      # the server is gone: no connection is taken, those that there were are cut
    store.gate.throttle()  # to every request it answers that it comes too soon
    store.gate.open()
"""

import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Self

import s3fs

BUCKET = "bucket"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "planted-secret", "AWS_DEFAULT_REGION": "us-east-1"}


class ObjectStore:
    """The server; `environment` is what a process needs to reach it through the gate."""

    def __init__(self) -> None:
        port = _free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.gate = Gate(port)
        self.environment = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.gate.port}"}

    def __enter__(self) -> Self:
        # A process that has reached another store keeps what it knows of it.
        s3fs.S3FileSystem.clear_instance_cache()
        _await(self.gate.upstream)
        self.files().mkdir(BUCKET)
        return self

    def __exit__(self, *_: object) -> None:
        s3fs.S3FileSystem.clear_instance_cache()  # which would know this server's address in the place of the next one's
        self.process.terminate()
        self.process.wait()
        self.gate.close()

    def files(self) -> s3fs.S3FileSystem:
        """The store as the tests look at it, past the gate."""
        return s3fs.S3FileSystem(
            key=KEYS["AWS_ACCESS_KEY_ID"],
            secret=KEYS["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=f"http://127.0.0.1:{self.gate.upstream}",
            use_listings_cache=False,
        )


_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_THROTTLED = b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(_SLOW_DOWN) + _SLOW_DOWN


class Gate:
    """A TCP port that passes on to another one. It counts the connections that it turned away."""

    def __init__(self, upstream: int) -> None:
        self.upstream, self.turned_away = upstream, 0
        self._shut = self._throttled = False
        self._open_ones: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._take, daemon=True).start()

    def shut(self) -> None:
        self._shut = True
        for one in list(self._open_ones):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def throttle(self) -> None:
        self.shut()
        self._throttled = True

    def open(self) -> None:
        self._shut = self._throttled = False

    def close(self) -> None:
        self.shut()
        self._listening.close()

    def _take(self) -> None:
        while True:
            try:
                one, _ = self._listening.accept()
            except OSError:
                return
            if self._shut:
                self.turned_away += 1
                threading.Thread(target=self._turn_away, args=(one,), daemon=True).start()
                continue
            other = socket.create_connection(("127.0.0.1", self.upstream))
            for source, sink in ((one, other), (other, one)):
                self._open_ones.add(source)
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _turn_away(self, one: socket.socket) -> None:
        with one, suppress(OSError):
            if self._throttled:
                one.recv(1 << 16)
                one.sendall(_THROTTLED)
                one.shutdown(socket.SHUT_WR)
                while one.recv(1 << 16):
                    pass

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(1 << 16):
                sink.sendall(content)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._open_ones.discard(source)
        source.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _await(port: int, patience_s: float = 30.0) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < until, "the server did not come up"
            time.sleep(0.05)
        else:
            return
