"""Whether Ray is still there, with sockets in the place of its servers."""

import socket
import threading
from collections.abc import Iterator

import pytest

from pipeline import cluster
from pipeline.cluster import HEAD, HERE


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the build was ended with, by a watch that looks often."""
    found: list[Exception] = []
    monkeypatch.setattr(cluster, "LOOK_S", 0.05)
    monkeypatch.setattr(cluster, "GONE_S", {HEAD: 0.5, HERE: 0.2})
    monkeypatch.setattr(cluster, "end_with", found.append)
    return found


@pytest.fixture
def head() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def watch(head: socket.socket, here: tuple[str, int], seconds: float) -> None:
    over = threading.Event()
    threading.Timer(seconds, over.set).start()
    cluster._watch({HEAD: head.getsockname()[:2], HERE: here}, over)


def test_servers_that_take_connections_are_there(head: socket.socket, ended: list[Exception]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as here:
        watch(head, here.getsockname()[:2], 0.6)
    assert ended == []


def test_a_server_that_takes_none_ends_the_build_with_its_name(head: socket.socket, ended: list[Exception]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as here:
        gone = here.getsockname()[:2]
    watch(head, gone, 5)
    (error,) = ended
    assert f"Ray's raylet of this machine at 127.0.0.1:{gone[1]} is gone" in str(error)


def test_a_server_that_comes_back_in_time_was_not_lost(head: socket.socket, ended: list[Exception]) -> None:
    port = head.getsockname()[1]
    head.close()
    again: list[socket.socket] = []
    threading.Timer(0.2, lambda: again.append(socket.create_server(("127.0.0.1", port)))).start()
    with socket.create_server(("127.0.0.1", 0)) as here:
        over = threading.Event()
        threading.Timer(1, over.set).start()
        cluster._watch({HEAD: ("127.0.0.1", port), HERE: here.getsockname()[:2]}, over)
    again[0].close()
    assert ended == []
