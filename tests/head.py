"""A head of Ray on loopback as an operator starts one: a dashboard, a token, an endpoint for metrics; ended by its id."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError

RAY = str(Path(sys.executable).with_name("ray"))
UP_S = 90.0


@dataclass(frozen=True)
class Head:
    """`environment` is what a client needs to be let in."""

    dashboard: str
    metrics: str
    environment: Mapping[str, str]

    def submit(self, working_dir: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit` from a folder that is shipped, with these variables as its runtime_env; gives what the job prints."""
        submit = [RAY, "job", "submit", "--address", self.dashboard, "--working-dir", "."]
        return subprocess.run(
            [*submit, "--runtime-env-json", json.dumps({"env_vars": variables}), "--", *command],
            cwd=working_dir,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    def scrape(self) -> str:
        with urllib.request.urlopen(self.metrics, timeout=5) as answer:
            return answer.read().decode()


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens; Ray wants them told apart before it starts."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def head(folder: Path, **planted: str) -> Iterator[Head]:
    """A head whose processes have these variables beside ours. The folder's path is to be short: sockets lie in it."""
    (folder / "token").write_text(secrets.token_hex(32))
    dashboard, metrics, client, agent = free_ports(4)
    # Ours would have Ray join what an earlier test has started.
    ours = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    ours["PATH"] = f"{Path(sys.executable).parent}:{ours['PATH']}"  # a job's `python` is the one that has Ray
    let_in = {**ours, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
    command = [RAY, "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=4", f"--temp-dir={folder / 'r'}"]
    command += ["--node-ip-address=127.0.0.1", "--port=0", "--min-worker-port=0", "--max-worker-port=0"]
    command += [f"--dashboard-port={dashboard}", f"--metrics-export-port={metrics}"]
    command += [f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"]
    command += ['--system-config={"metrics_report_interval_ms": 1000}']
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(command, env={**let_in, **planted}, stdout=log, stderr=log)
    try:
        _wait_for(process, f"http://127.0.0.1:{dashboard}/api/version", folder / "head.log")
        yield Head(f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{metrics}/metrics", let_in)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + UP_S
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except HTTPError:  # it answers, and wants the token
            return
        except (URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"no head of Ray came up: {log.read_text()[-2000:]}")
