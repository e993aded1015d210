"""What one exploration leaves for its updates: the same on every rank, however many there are.

Every rank holds all of it (a thousand answers of a thousand tokens are a few dozen megabytes) and trains on its share.
With several updates an exploration outlives a step; it then lies in RUN/explorations/ before the first, so that a run
that is killed between two goes on with the same samples, log-probabilities and coefficients.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.data.batch import Document, StepBatch
from dsm.errors import UserError
from dsm.files import atomic_write_bytes
from dsm.training.rl.batch import shared_batch

Unit = list[Document]
"""Documents that stay in one micro-batch: a pair of DPO's, else one."""


@dataclass(frozen=True)
class Exploration:
    """The samples of one exploration that are trained on.

    Attributes:
        number: of the exploration, from 0.
        units: documents with their streams, in an order that no layout changes.
        facts: metrics about it.
    """

    number: int
    units: list[Unit]
    facts: dict[str, float]

    @property
    def streams(self) -> list[str]:
        """Names of the streams, on every rank alike."""
        return list(dict.fromkeys(name for unit in self.units for document in unit for name in document.streams))

    def share(self, rank: int, shares: int, tokens_per_microbatch: int) -> StepBatch:
        """One rank's part: units are dealt out longest first, so that all have about as many tokens."""
        mine = dealt([sum(len(document.ids) for document in unit) for unit in self.units], shares)[rank]
        return shared_batch([self.units[i] for i in mine], tokens_per_microbatch)

    def write(self, folder: Path) -> None:
        """To FOLDER/exploration-N.npz, whole or not at all."""
        documents = [document for unit in self.units for document in unit]
        arrays: dict[str, NDArray[np.generic]] = {
            "units": np.array([len(unit) for unit in self.units], dtype=np.int64),
            "lengths": np.array([len(document.ids) for document in documents], dtype=np.int64),
            "ids": _joined([document.ids for document in documents], np.int64),
            "trained": _joined([document.trained for document in documents], np.bool_),
            "facts": np.frombuffer(json.dumps(self.facts).encode(), dtype=np.uint8),
        }
        for name in self.streams:
            has = np.array([name in document.streams for document in documents])
            arrays[f"has/{name}"] = has
            values = [d.streams.get(name, np.zeros(len(d.ids), dtype=np.float32)) for d in documents]
            arrays[f"stream/{name}"] = _joined(values, np.float32)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own settings
        atomic_write_bytes(_file(folder, self.number), buffer.getvalue())

    @classmethod
    def read(cls, folders: Sequence[Path], number: int) -> Exploration:
        """From the first of the folders that has it.

        Raises:
            UserError: none has.
        """
        file = next((file for folder in folders if (file := _file(folder, number)).is_file()), None)
        if file is None:
            raise UserError(
                f"resume: the samples of exploration {number} are gone (not in {', '.join(map(str, folders))}); go on"
                " from a checkpoint between two explorations, or start anew with resume=never"
            )
        with np.load(file, allow_pickle=False) as arrays:
            borders = np.cumsum(arrays["lengths"])[:-1]
            ids, trained = (np.split(arrays[name], borders) for name in ("ids", "trained"))
            streams: list[dict[str, NDArray[np.float32]]] = [{} for _ in ids]
            for name in (key.removeprefix("stream/") for key in arrays.files if key.startswith("stream/")):
                values = np.split(arrays[f"stream/{name}"], borders)
                for number_of_document in np.flatnonzero(arrays[f"has/{name}"]):
                    streams[number_of_document][name] = values[number_of_document]
            made = (Document(*parts) for parts in zip(ids, trained, strict=True))
            documents = iter([d._replace(streams=s) for d, s in zip(made, streams, strict=True)])
            units = [[next(documents) for _ in range(size)] for size in arrays["units"]]
            return cls(number, units, json.loads(arrays["facts"].tobytes()))


def forget_before(folder: Path, number: int) -> None:
    """Drop explorations before this one: no checkpoint that is kept asks for them."""
    for file in folder.glob("exploration-*.npz"):
        if int(file.stem.rpartition("-")[2]) < number:
            file.unlink()


def dealt(sizes: Sequence[int], shares: int) -> list[list[int]]:
    """Numbers of things in equal portions by size: longest first, there and back; each portion in order."""
    portions: list[list[int]] = [[] for _ in range(shares)]
    for place, number in enumerate(sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))):
        turn, seat = divmod(place, shares)
        portions[seat if turn % 2 == 0 else shares - 1 - seat].append(number)
    return [sorted(portion) for portion in portions]


def _file(folder: Path, number: int) -> Path:
    return folder / f"exploration-{number:08d}.npz"


def _joined(arrays: Sequence[NDArray[np.generic]], dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays]).astype(dtype)
