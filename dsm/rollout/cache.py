"""Keys and values of everything under way: each prompt once, and beside it the tokens of each of its samples.

A layer holds two blocks. Prompts: (slots, heads, length, head_dim), filled once by the prompt's own forward. Rows, one
a sample: (rows, heads, tokens, head_dim), one column more each step. All are aligned to the left, so that a token's
sums run in the same order whoever shares the batch. Slots and rows that come free are filled by moving others into
them, so that what is alive is always a leading slice: a view, never a copy.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

COLUMNS, LEAST_COLUMNS = 32, 64
"""Lengths of blocks are multiples of the one, and at least the other."""


@dataclass(frozen=True)
class LayerShape:
    """Heads of one attention layer's queries, and of its keys and values."""

    query_heads: int
    heads: int
    key_dim: int
    value_dim: int


@dataclass(frozen=True)
class Extent:
    """How much room there is, or is wanted: numbers of prompt slots and rows, and tokens in each."""

    prompts: int = 0
    prompt_tokens: int = 0
    rows: int = 0
    row_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens whose keys and values fit."""
        return self.prompts * self.prompt_tokens + self.rows * self.row_tokens

    def union(self, other: Extent) -> Extent:
        """Room for both in every direction."""
        return Extent(
            max(self.prompts, other.prompts),
            max(self.prompt_tokens, other.prompt_tokens),
            max(self.rows, other.rows),
            max(self.row_tokens, other.row_tokens),
        )

    def rounded(self, multiple: int = 1) -> Extent:
        """With lengths as the cache allots them, and a multiple of so many rows."""
        rows = -(-self.rows // multiple) * multiple
        return Extent(self.prompts, _columns(self.prompt_tokens), rows, _columns(self.row_tokens))


class KVCache:
    """The blocks of all layers. `extent` is the room at present; new room holds zeros."""

    def __init__(self, shapes: Sequence[LayerShape], dtype: torch.dtype, device: torch.device) -> None:
        self.shapes, self.dtype, self.device = tuple(shapes), dtype, device
        self.extent = Extent()
        empty = [(torch.empty(0), torch.empty(0)) for _ in shapes]
        self.prompts: list[tuple[Tensor, Tensor]] = list(empty)
        self.rows: list[tuple[Tensor, Tensor]] = list(empty)

    @property
    def nbytes(self) -> int:
        """Memory the blocks take now."""
        return sum(block.nbytes for pair in (*self.prompts, *self.rows) for block in pair)

    def resize(self, extent: Extent, prompts: int, rows: int) -> None:
        """Make the room exactly `extent` (lengths rounded up), keeping the first `prompts` slots and `rows` rows.

        Layer by layer, so that no more than one layer exists twice.
        """
        extent, old = extent.rounded(), self.extent
        for layer, shape in enumerate(self.shapes):
            if (extent.prompts, extent.prompt_tokens) != (old.prompts, old.prompt_tokens):
                self.prompts[layer] = self._resized(
                    self.prompts[layer], shape, extent.prompts, extent.prompt_tokens, prompts
                )
            if (extent.rows, extent.row_tokens) != (old.rows, old.row_tokens):
                self.rows[layer] = self._resized(self.rows[layer], shape, extent.rows, extent.row_tokens, rows)
        self.extent = extent

    def store_prompts(self, layer: int, key: Tensor, value: Tensor, lengths: Sequence[int], first: int) -> None:
        """Packed keys and values (T, heads, dim) of whole prompts into the slots from `first` on."""
        for block, packed in zip(self.prompts[layer], (key, value), strict=True):
            for slot, document in enumerate(packed.split(list(lengths)), first):
                block[slot, :, : len(document)] = document.transpose(0, 1)

    def move_prompts(self, source: Tensor, target: Tensor) -> None:
        """Copy slots over others; the two index lists share no slot, or `source` is ahead of `target` throughout."""
        for pair in self.prompts:
            for block in pair:
                block[target] = block[source]

    def move_rows(self, source: Tensor, target: Tensor, tokens: int) -> None:
        """Copy the first `tokens` columns of rows over those of other rows."""
        for pair in self.rows:
            for block in pair:
                block[target, :, :tokens] = block[source, :, :tokens]

    def _resized(
        self, pair: tuple[Tensor, Tensor], shape: LayerShape, count: int, tokens: int, kept: int
    ) -> tuple[Tensor, Tensor]:
        key, value = (
            torch.zeros(count, shape.heads, tokens, dim, dtype=self.dtype, device=self.device)
            for dim in (shape.key_dim, shape.value_dim)
        )
        if kept:
            for new, old in zip((key, value), pair, strict=True):
                columns = min(tokens, old.shape[2])
                new[:kept, :, :columns] = old[:kept, :, :columns]
        return key, value


def token_bytes(shapes: Sequence[LayerShape], dtype: torch.dtype) -> int:
    """Bytes that one token's keys and values take in all layers."""
    return sum(shape.heads * (shape.key_dim + shape.value_dim) for shape in shapes) * dtype.itemsize


def free_memory(device: torch.device) -> int:
    """Bytes that could be taken on the device now; on a host, within the limits of the container too."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():  # counts what the system would give back from its caches
        free = next(int(x.split()[1]) * 1024 for x in meminfo.read_text().splitlines() if x.startswith("MemAvailable:"))
    group = Path("/sys/fs/cgroup")
    limit, current = group / "memory.max", group / "memory.current"
    if limit.is_file() and current.is_file() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(current.read_text()))
    return max(free, 0)


def give_back() -> None:
    """Hand memory that nothing uses any more to the system: allocators keep it, where another size finds no place."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
        trim(0)


def _columns(tokens: int) -> int:
    return max(-(-tokens // COLUMNS) * COLUMNS, LEAST_COLUMNS) if tokens else 0
