"""An embedder that keeps the vectors of texts on disk, since a benchmark that is run again embeds the same texts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.digest import digest_text
from pipeline.embedders.base import Embed, Embedder, Side, Vectors


class Cached(Embedder):
    """Another embedder's vectors; those of texts that it had before come from the folder `kept_in`."""

    kind: str = "cached"
    of: Embedder
    kept_in: Path

    def open(self) -> Embed:
        model: list[Embed] = []

        def embed(texts: Sequence[str], side: Side) -> Vectors:
            paths = [self.kept_in / f"{digest_text(f'{side} {text}')}.npy" for text in texts]
            new = [number for number, path in enumerate(paths) if not path.exists()]
            if new and not model:
                model.append(self.of.open())
            vectors = model[0]([texts[number] for number in new], side) if new else ()
            for number, vector in zip(new, vectors, strict=True):
                np.save(paths[number], vector)
            return np.stack([np.load(path) for path in paths]) if paths else np.zeros((0, 0), np.float32)

        self.kept_in.mkdir(parents=True, exist_ok=True)
        return embed
