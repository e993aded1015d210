"""Attention of a step of decoding: each row's newest token over its prompt, shared by its group, and over its own past.

The prompt's part is one product for several rows of a group: keys and values are read once for all of them. The two
parts are softmaxes of their own, put together by the mass under each (log-sum-exp), which is exact.

Bits do not depend on the company. Libraries pick their kernels by the shape of a product, and another kernel sums in
another order; so what differs from step to step is kept out of the shapes. A product over a prompt always has the same
number of queries, padded if need be. Lengths of keys, which do vary, change no sum: what is added is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dsm.rollout.cache import KVCache

MASKED = -1e30
"""Added to scores of keys out of reach: finite, so that a part that is masked whole gets weight zero and no NaN."""

SMALL_PRODUCT = 400
"""Multiplications a matrix under which `bmm` takes another way on CPUs."""
QUERIES = 8
"""Queries of a product over a prompt on a CPU: enough to be fast, and a whole group of the usual size."""
MOST_QUERIES = 64
"""The like on CUDA, where small groups are padded to less."""
TOLL = 64
"""Rows of padding that take about as long as another round of operations."""


def group_width(shared: int, largest: int, device: torch.device) -> int:
    """Rows of a group that meet its prompt in one product; `shared` query heads look at the same keys."""
    queries = QUERIES if device.type == "cpu" else min(-(-largest * shared // 8) * 8, MOST_QUERIES)
    return -(-queries // shared)


@dataclass(frozen=True)
class Grouping:
    """Which row looks at which prompt, arranged as groups of `width` entries; it changes only as rows come and go.

    Bucket (first, last) are groups of the prompts in slots `first` up to `last`; a prompt of more rows than `width` is
    in several. Row r is entry `entry_of_row[r]` of all groups laid end to end, and entry e shows row `row_of_entry[e]`
    (padding shows any row); both None where they are the identity. Rows that pad the batch have any entry.
    """

    width: int
    buckets: tuple[tuple[int, int], ...]
    entry_of_row: Tensor | None
    row_of_entry: Tensor | None
    slot_of_row: Tensor

    @classmethod
    def of(cls, slots: Sequence[int], n_prompts: int, width: int, padding: int, device: torch.device) -> Grouping:
        """`slots`: the prompt slot of each row; `padding`: how many rows without a prompt follow them."""
        members: list[list[int]] = [[] for _ in range(n_prompts)]
        for row, slot in enumerate(slots):
            members[slot].append(row)
        buckets: list[tuple[int, int]] = []
        row_of_entry: list[int] = []
        entry_of_row = [0] * (len(slots) + padding)
        for start in range(0, max(map(len, members)), width):
            for first, last in _runs([slot for slot, rows in enumerate(members) if len(rows) > start], TOLL // width):
                buckets.append((first, last))
                for rows in members[first:last]:
                    shown = rows[start : start + width]
                    for place, row in enumerate(shown, len(row_of_entry)):
                        entry_of_row[row] = place
                    row_of_entry += shown + [0] * (width - len(shown))
        slot_of_row = torch.tensor([*slots, *[0] * padding], device=device)
        if row_of_entry == list(range(len(entry_of_row))):
            return cls(width, tuple(buckets), None, None, slot_of_row)
        to_entry, to_row = (torch.tensor(index, device=device) for index in (entry_of_row, row_of_entry))
        return cls(width, tuple(buckets), to_entry, to_row, slot_of_row)


def _runs(slots: Sequence[int], gap: int) -> list[tuple[int, int]]:
    """Ranges that cover the rising `slots` and join over at most `gap` others."""
    runs: list[tuple[int, int]] = []
    for slot in slots:
        if runs and slot - runs[-1][1] <= gap:
            runs[-1] = runs[-1][0], slot + 1
        else:
            runs.append((slot, slot + 1))
    return runs


class DecodeAttention:
    """One step's attention for all layers: called as (layer, q, k, v, scale, window) with (R, heads, dim) tensors.

    `lengths` (R,) are the tokens that each row already has in the cache, `prompt_lengths` (slots,) those of the
    prompts; `longest` and `longest_prompt` bound them on the host. k and v go into the cache before anything is read.
    """

    def __init__(
        self,
        cache: KVCache,
        grouping: Grouping,
        lengths: Tensor,
        prompt_lengths: Tensor,
        longest: int,
        longest_prompt: int,
    ) -> None:
        self.cache, self.grouping = cache, grouping
        self.lengths, self.prompt_lengths = lengths, prompt_lengths
        self.columns = self._columns(longest + 1, cache.extent.row_tokens)
        self.prompt_columns = self._columns(longest_prompt, cache.extent.prompt_tokens)
        self._masks: dict[tuple[int, int | None], tuple[Tensor, list[Tensor]]] = {}
        self._places: dict[int, Tensor] = {}

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """-> (R, query heads, value dim)."""
        rows, heads, dim = query.shape
        kv_heads = key.shape[1]
        shared = heads // kv_heads
        keys, values = self.cache.rows[layer]
        places = self._place(kv_heads)
        keys.view(-1, dim).index_copy_(0, places, key.reshape(rows * kv_heads, dim))
        values.view(-1, value.shape[2]).index_copy_(0, places, value.reshape(rows * kv_heads, -1))
        own_mask, prompt_masks = self._mask(kv_heads, shared, window)

        own, own_peak = _attend(
            query.reshape(rows * kv_heads, shared, dim),
            keys[:rows, :, : self.columns].flatten(0, 1),
            values[:rows, :, : self.columns].flatten(0, 1),
            own_mask,
            scale,
        )
        own, own_peak = own.view(rows, heads, -1), own_peak.view(rows, heads, 2)

        entries = query if self.grouping.row_of_entry is None else query.index_select(0, self.grouping.row_of_entry)
        keys, values = self.cache.prompts[layer]
        outputs: list[Tensor] = []
        peaks: list[Tensor] = []
        start = 0
        width = self.grouping.width
        for (first, last), mask in zip(self.grouping.buckets, prompt_masks, strict=True):
            groups = last - first
            q = entries[start : start + groups * width].view(groups, width, kv_heads, shared, dim)
            start += groups * width
            output, peak = _attend(
                q.transpose(1, 2).reshape(groups * kv_heads, width * shared, dim),
                keys[first:last, :, : self.prompt_columns].flatten(0, 1),
                values[first:last, :, : self.prompt_columns].flatten(0, 1),
                mask,
                scale,
            )
            for parts, part in ((outputs, output), (peaks, peak)):
                part = part.view(groups, kv_heads, width, shared, -1).transpose(1, 2)
                parts.append(part.reshape(groups * width, heads, -1))
        prompt, prompt_peak = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (outputs, peaks))
        if self.grouping.entry_of_row is not None:
            prompt, prompt_peak = (x.index_select(0, self.grouping.entry_of_row) for x in (prompt, prompt_peak))
        (own_score, own_weight), (score, weight) = own_peak.unbind(-1), prompt_peak.unbind(-1)
        share = torch.sigmoid(score - own_score + torch.log(own_weight / weight))
        return torch.lerp(own, prompt, share.to(own.dtype)[:, :, None])

    def _columns(self, tokens: int, capacity: int) -> int:
        """How many keys products go over: few sizes, none so small that PyTorch multiplies by a loop of its own."""
        narrowest = min(min(shape.key_dim, shape.value_dim) for shape in self.cache.shapes)
        return min(-(-max(tokens, -(-SMALL_PRODUCT // narrowest)) // 16) * 16, capacity)

    def _place(self, kv_heads: int) -> Tensor:
        """Where each row's new key goes in a block seen as (rows * heads * tokens, dim)."""
        if kv_heads not in self._places:
            capacity = self.cache.extent.row_tokens
            first = torch.arange(len(self.lengths) * kv_heads, device=self.lengths.device).view(-1, kv_heads) * capacity
            self._places[kv_heads] = (first + self.lengths[:, None]).flatten()
        return self._places[kv_heads]

    def _mask(self, kv_heads: int, shared: int, window: int | None) -> tuple[Tensor, list[Tensor]]:
        """What is added to scores: of own keys (R * kv_heads, 1, columns), and of each bucket's prompts."""
        if (kv_heads, window) in self._masks:
            return self._masks[kv_heads, window]
        grouping, dtype = self.grouping, self.cache.dtype
        own_index = torch.arange(self.columns, device=self.lengths.device)
        prompt_index = torch.arange(self.prompt_columns, device=self.lengths.device)
        outside = own_index > self.lengths[:, None]
        out_of_prompt = prompt_index >= self.prompt_lengths[:, None]
        if window is not None:
            outside |= own_index <= self.lengths[:, None] - window
        own = _penalty(outside, dtype)[:, None].expand(-1, kv_heads, -1).reshape(-1, 1, self.columns)
        prompts: list[Tensor] = []
        start = 0
        for first, last in grouping.buckets:
            out = out_of_prompt[first:last, None]  # (groups, 1, columns)
            if window is not None:
                seen_from = self.prompt_lengths[grouping.slot_of_row] + self.lengths - window  # last key out of reach
                if grouping.row_of_entry is not None:
                    seen_from = seen_from[grouping.row_of_entry]
                entries = (last - first) * grouping.width
                out = out | (prompt_index <= seen_from[start : start + entries].view(-1, grouping.width, 1))
                start += entries
            penalty = _penalty(out, dtype).repeat_interleave(shared if window is not None else 1, dim=1)
            prompts.append(penalty[:, None].expand(-1, kv_heads, -1, -1).flatten(0, 1))
        self._masks[kv_heads, window] = own, prompts
        return own, prompts


def _penalty(outside: Tensor, dtype: torch.dtype) -> Tensor:
    penalty = max(MASKED, torch.finfo(dtype).min / 2)
    return torch.zeros(outside.shape, dtype=dtype, device=outside.device).masked_fill_(outside, penalty)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(B, Q, d) over (B, S, d) -> mean of the values (B, Q, d); largest score and its weight (B, Q, 2), fp32.

    The score minus the log of its weight is the log-sum-exp of all: two quick passes in place of a second softmax.
    """
    scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scale).float()
    weights = scores.softmax(-1)
    return weights.to(value.dtype) @ value, torch.stack([scores.amax(-1), weights.amax(-1)], dim=-1)
