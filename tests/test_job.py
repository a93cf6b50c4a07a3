"""A build as a job on a cluster with its outputs in an object store: what comes out, what can be seen of it, and what cannot."""

import json
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, make, planned
from head import Head, head
from object_store import BUCKET, ObjectStore
from releasing import releases
from test_object_store import content_of
from test_run import Project
from typer.testing import CliRunner

from pipeline import cli, config
from pipeline.checksums import LATEST
from pipeline.metrics import exposed
from pipeline.objects import place
from pipeline.release.place import place_new
from pipeline.store import Artifact

SECRETS = {
    "OPENAI_API_KEY": "sk-planted-for-a-model",
    "AWS_ACCESS_KEY_ID": "planted-name-for-a-store",
    "AWS_SECRET_ACCESS_KEY": "planted/for+a/store",
}
CLUSTER = ROOT / "configs" / "cluster"
OUTPUTS = f"s3://{BUCKET}/outputs"


@dataclass(frozen=True)
class Submitted:
    """A job that is done: the folder it was submitted from, its machine's cache, and what was printed and scraped."""

    project: Path
    cache: Path
    printed: str
    metrics: str

    @property
    def build(self) -> Path:
        return place(OUTPUTS) / "small"


@pytest.fixture(scope="module", name="job")
def submitted_job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Submitted]:
    """The cluster has the keys; where the store is, which is no secret, the job brings along."""
    folder, cache = shippable(tmp_path_factory.mktemp("job")), tmp_path_factory.mktemp("cache")
    run = ["python", "-m", "pipeline", "run", "config.yaml", "--log-json", "--set", f"runtime.root={OUTPUTS}"]
    look = [*run, "&&", "test", "!", "-e", ".env"]
    with (
        ObjectStore() as store,
        tempfile.TemporaryDirectory(dir="/tmp", prefix="pm-") as short,
        head(Path(short), **SECRETS) as started,
        pytest.MonkeyPatch.context() as patched,
    ):
        endpoint = store.environment["AWS_ENDPOINT_URL"]
        done = started.submit(
            folder, "bash", "-c", " ".join(look), AWS_ENDPOINT_URL=endpoint, PAIRMILL_CACHE=str(cache)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        for name, value in store.environment.items():
            patched.setenv(name, value)
        yield Submitted(folder, cache, done.stdout + done.stderr, scraped(started))


def shippable(folder: Path) -> Path:
    """A checkout with a config, and with a file of keys that is to stay here."""
    project = Project(folder, documents=60)
    del project.config["runtime"]["engines"], project.config["runtime"]["ray"]
    (folder / "config.yaml").write_text(yaml.safe_dump(project.config, sort_keys=False))
    shutil.copytree(ROOT / "pipeline", folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".rayignore", folder)
    (folder / ".env").write_text("OPENAI_API_KEY=sk-not-to-be-shipped")
    return folder


def scraped(started: Head) -> str:
    """The metrics, when all that the build has to tell are there."""
    until = time.monotonic() + 15
    while time.monotonic() < until and not all(name in started.scrape() for name in exposed()):
        time.sleep(0.5)
    return started.scrape()


def test_the_release_of_a_job_is_the_one_made_here_to_the_byte(job: Submitted, tmp_path: Path) -> None:
    path = job.project / "config.yaml"
    loaded = config.load(path)
    steps = planned(loaded, path, (job.project / "prompts",))
    for step in steps.values():
        make(step, loaded, tmp_path / "small")
    (here,) = place_new(loaded.recipe, list(steps.values()), tmp_path / "small", "today")
    (there,) = releases(job.build)
    assert f"The release is in {there}" in job.printed
    assert content_of(there) == content_of(here)


def test_what_was_counted_is_what_became_of_the_rows(job: Submitted) -> None:
    told = {
        (name, labels.get("step"), labels.get("reason")): float(value)
        for name, text, value in re.findall(r"^(ray_pairmill_\w+)\{(.*)\} (\S+)$", job.metrics, re.MULTILINE)
        for labels in [dict(re.findall(r'(\w+)="([^"]*)"', text))]
    }
    for step in ("clean", "queries", "tuples"):
        (folder,) = job.build.glob(f"{step}-*")
        stats = Artifact(folder).stats()
        assert told["ray_pairmill_rows_total", step, None] == stats.rows_in
        assert told["ray_pairmill_parts_total", step, None] == len(Artifact(folder).part_numbers())
        for reason, count in stats.rejected.items():
            assert told["ray_pairmill_rejects_total", step, reason] == count
    (folder,) = job.build.glob("queries-*")
    stats = Artifact(folder).stats()
    assert told["ray_pairmill_requests_total", "queries", None] == stats.rows_out
    assert told["ray_pairmill_output_tokens_total", "queries", None] == stats.output_tokens
    assert {name for name, *_ in told} == set(exposed())
    assert all('build="small"' in line for line in job.metrics.splitlines() if line.startswith("ray_pairmill"))


def test_each_line_of_the_log_is_json_and_those_of_workers_name_their_part(job: Submitted) -> None:
    (log,) = (job.cache / "small/logs").iterdir()
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert all(line["time"] and line["build"] == "small" for line in lines)
    (folder,) = job.build.glob("clean-*")
    ours = [line for line in lines if line.get("step") == "clean"]
    assert {line["part"] for line in ours if "worker" in line} == set(Artifact(folder).part_numbers())
    assert [line for line in ours if "worker" not in line]


def test_the_status_is_told_from_the_outputs_alone(job: Submitted) -> None:
    result = CliRunner().invoke(cli.app, ["status", "small", "--root", OUTPUTS, "--json"])
    found = json.loads(result.stdout)
    assert found["run"] == "done"
    assert {step["state"] for step in found["steps"]} == {"done"}
    assert next(step for step in found["steps"] if step["step"] == "clean")["parts"] > 1


def test_a_key_in_the_environment_is_written_nowhere(job: Submitted) -> None:
    status = CliRunner().invoke(cli.app, ["status", "small", "--root", OUTPUTS]).stdout
    written = {**content_of(place(f"s3://{BUCKET}")), **content_of(job.cache)}
    assert {"outputs/small/run.json", f"outputs/small/release/{LATEST}"} <= written.keys()
    assert any(path.startswith("small/logs/") for path in written)
    for secret in SECRETS.values():
        for where, what in {**written, "status": status, "printed": job.printed, "metrics": job.metrics}.items():
            assert secret not in (what if isinstance(what, str) else what.decode("latin-1")), where


def test_the_dashboard_asks_for_just_the_metrics_that_there_are() -> None:
    dashboard = json.loads((CLUSTER / "grafana.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    assert set(re.findall(r"ray_pairmill_\w+", asked)) == set(exposed())
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def manifest() -> dict[str, object]:
    return yaml.safe_load((CLUSTER / "rayjob.yaml").read_text())


def test_the_manifest_has_what_a_rayjob_needs_and_no_field_that_it_does_not_know() -> None:
    spec = manifest()["spec"]
    assert (manifest()["apiVersion"], manifest()["kind"]) == ("ray.io/v1", "RayJob")
    assert spec.keys() <= {
        "entrypoint",
        "submissionMode",
        "backoffLimit",
        "shutdownAfterJobFinishes",
        "ttlSecondsAfterFinished",
        "rayClusterSpec",
    }
    cluster = spec["rayClusterSpec"]
    assert cluster.keys() <= {
        "rayVersion",
        "authOptions",
        "enableInTreeAutoscaling",
        "autoscalerOptions",
        "headGroupSpec",
        "workerGroupSpecs",
    }
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(isinstance(group["rayStartParams"], dict) for group in groups)
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["envFrom"] == [{"secretRef": {"name": "pairmill-keys"}}]
        assert "env" not in container  # a key has no other way in


def test_the_manifests_command_is_one_that_the_command_line_takes() -> None:
    program, run, path, *options = shlex.split(manifest()["spec"]["entrypoint"])
    assert (program, run, options.pop(0)) == ("pairmill", "run", "--log-json")
    changes = [value for flag, value in zip(options[::2], options[1::2], strict=True) if flag == "--set"]
    elsewhere = [change for change in changes if not change.startswith("runtime.root=s3://")]
    assert len(elsewhere) == len(changes) - 1
    assert config.load(ROOT / path, elsewhere).recipe.engines["writer"].kind == "vllm"


def test_the_manifest_the_image_and_the_lock_are_of_one_version_of_ray() -> None:
    lock = (CLUSTER / "requirements.lock").read_text()
    assert f"\nray=={manifest()['spec']['rayClusterSpec']['rayVersion']} " in lock
    pinned = re.findall(r"^([\w.\-]+(?:\[.*\])?)(==)?", lock, re.MULTILINE)
    assert all(exactly for name, exactly in pinned if name)
    assert lock.count("--hash=sha256:") > len(pinned) / 2
    assert "://" not in lock
