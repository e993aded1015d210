"""Small token stores as datatrove writes them, and mixtures of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dsm.config.mix import MixConfig
from dsm.data.batch import Document
from dsm.data.mixture import Mixture

EOS = 0


def write_store(folder: Path, documents: Sequence[Sequence[int]], shards: int = 1, dtype: str = "<u2") -> Path:
    """Documents of ids, each ended by `EOS`, in so many `.ds` files."""
    folder.mkdir(parents=True)
    for number in range(shards):
        part = [[*document, EOS] for document in documents[number::shards]]
        ends = np.cumsum([len(document) for document in part])
        np.concatenate(part).astype(dtype).tofile(folder / f"{number:05d}.ds")
        ends.astype("<u8").tofile(folder / f"{number:05d}.ds.index")
    return folder


def numbered_store(folder: Path, lengths: Sequence[int], shards: int = 1, first: int = 1) -> Path:
    """Documents of given lengths, the end included, in which no id but `EOS` comes twice: an id tells its place."""
    documents = []
    for length in lengths:
        documents.append(list(range(first, first + length - 1)))
        first += length - 1
    return write_store(folder, documents, shards, "<u4")


def mix_config(
    stores: Path, weights: dict[str, float | dict[str, Any]], context: int = 16, **settings: Any
) -> MixConfig:
    """A mix of stores in a folder."""
    sources = {name: value if isinstance(value, dict) else {"weight": value} for name, value in weights.items()}
    defaults = {"schedule": [], "exhausted": "refuse", "packing": "cut", "mask_documents": True}
    validation = {"validation": {"sequences": 0, "sources": {}}}
    values: dict[str, Any] = {"context": context, "root": str(stores), "sources": sources} | defaults | validation
    return MixConfig.model_validate(values | settings)


def mixture(root: Path, weights: dict[str, float | dict[str, Any]], seed: int = 0, **settings: Any) -> Mixture:
    """The same, opened."""
    sequences = settings.pop("sequences", None)
    return Mixture.open(mix_config(root, weights, **settings), seed=seed, cache=root / "cache", sequences=sequences)


def same_rows(ours: Sequence[Sequence[Document]], theirs: Sequence[Sequence[Document]]) -> bool:
    """Whether rows hold the same documents of the same sources."""
    return [[shown(document) for document in row] for row in ours] == [
        [shown(document) for document in row] for row in theirs
    ]


def shown(document: Document) -> tuple[list[int], int, int | None]:
    """A document as plain values."""
    return document.ids.tolist(), document.source, document.following
