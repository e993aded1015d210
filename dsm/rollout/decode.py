"""Attention of a step of decoding: each row's newest token over its prompt, shared by its group, and over its own past.

The prompt's part is one product for all rows of a group: keys and values are read once a group, not once a row. The two
parts are softmaxes of their own, put together by the mass under each (log-sum-exp), which is exact.

Bits do not depend on the company. Every product here and in the layers sums a row in the same order whatever the other
rows are, as long as there are at least two rows (with one, libraries switch to another kernel); so no product ever has
fewer. `tests/rollout/test_invariance.py` holds this to be so where it runs.
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


@dataclass(frozen=True)
class Bucket:
    """Neighbouring prompt slots `first` to `last` (exclusive), each padded to `width` rows."""

    first: int
    last: int
    width: int


@dataclass(frozen=True)
class Grouping:
    """Which row looks at which prompt, arranged as padded groups; it changes only when rows come and go.

    Row r is entry `entry_of_row[r]` of the groups laid end to end, and entry e shows row `row_of_entry[e]` (padding
    shows any row). Both None where they are the identity.
    """

    buckets: tuple[Bucket, ...]
    entry_of_row: Tensor | None
    row_of_entry: Tensor | None
    slot_of_row: Tensor

    @classmethod
    def of(cls, slots: Sequence[int], n_prompts: int, least: int, device: torch.device) -> Grouping:
        """`slots`: the prompt slot of each row. `least`: rows that a group is padded to at least."""
        members: list[list[int]] = [[] for _ in range(n_prompts)]
        for row, slot in enumerate(slots):
            members[slot].append(row)
        buckets = _buckets([max(len(rows), least) for rows in members])
        row_of_entry: list[int] = []
        entry_of_row = [0] * len(slots)
        for bucket in buckets:
            for rows in members[bucket.first : bucket.last]:
                for place, row in enumerate(rows):
                    entry_of_row[row] = len(row_of_entry) + place
                row_of_entry += rows + [rows[0] if rows else 0] * (bucket.width - len(rows))
        slot_of_row = torch.tensor(slots, device=device)
        if row_of_entry == list(range(len(slots))):
            return cls(tuple(buckets), None, None, slot_of_row)
        return cls(
            tuple(buckets),
            torch.tensor(entry_of_row, device=device),
            torch.tensor(row_of_entry, device=device),
            slot_of_row,
        )


def _buckets(widths: Sequence[int]) -> list[Bucket]:
    """Neighbours share a bucket, and its largest width, as long as padding costs less than one more product."""
    toll = 64  # rows of padding that take about as long as another round of operations
    buckets: list[Bucket] = []
    for slot, width in enumerate(widths):
        if buckets:
            last = buckets[-1]
            merged = Bucket(last.first, slot + 1, max(last.width, width))
            apart = (last.last - last.first) * last.width + width
            if (merged.last - merged.first) * merged.width <= apart + toll:
                buckets[-1] = merged
                continue
        buckets.append(Bucket(slot, slot + 1, width))
    return buckets


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

        own, own_lse = _attend(
            query.reshape(rows * kv_heads, shared, dim),
            keys[:rows, :, : self.columns].flatten(0, 1),
            values[:rows, :, : self.columns].flatten(0, 1),
            own_mask,
            scale,
        )
        own, own_lse = own.view(rows, heads, -1), own_lse.view(rows, heads, 1)

        entries = query if self.grouping.row_of_entry is None else query.index_select(0, self.grouping.row_of_entry)
        keys, values = self.cache.prompts[layer]
        outputs: list[Tensor] = []
        masses: list[Tensor] = []
        start = 0
        for bucket, mask in zip(self.grouping.buckets, prompt_masks, strict=True):
            groups, width = bucket.last - bucket.first, bucket.width
            q = entries[start : start + groups * width].view(groups, width, kv_heads, shared, dim)
            start += groups * width
            output, mass = _attend(
                q.transpose(1, 2).reshape(groups * kv_heads, width * shared, dim),
                keys[bucket.first : bucket.last, :, : self.prompt_columns].flatten(0, 1),
                values[bucket.first : bucket.last, :, : self.prompt_columns].flatten(0, 1),
                mask,
                scale,
            )
            for parts, part in ((outputs, output), (masses, mass)):
                part = part.view(groups, kv_heads, width, shared, -1).transpose(1, 2)
                parts.append(part.reshape(groups * width, heads, -1))
        prompt, prompt_lse = (parts[0] if len(parts) == 1 else torch.cat(parts) for parts in (outputs, masses))
        if self.grouping.entry_of_row is not None:
            prompt, prompt_lse = (x.index_select(0, self.grouping.entry_of_row) for x in (prompt, prompt_lse))
        return torch.lerp(own, prompt, torch.sigmoid(prompt_lse - own_lse).to(own.dtype))

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
        prompts, start = [], 0
        for bucket in grouping.buckets:
            groups, width = bucket.last - bucket.first, bucket.width
            out = out_of_prompt[bucket.first : bucket.last, None]  # (groups, 1, columns)
            if window is not None:
                seen_from = self.prompt_lengths[grouping.slot_of_row] + self.lengths - window  # last key out of reach
                if grouping.row_of_entry is not None:
                    seen_from = seen_from[grouping.row_of_entry]
                seen_from = seen_from[start : start + groups * width].view(groups, width, 1)
                out = out | (prompt_index <= seen_from)
            start += groups * width
            penalty = _penalty(out, dtype).repeat_interleave(shared if window is not None else 1, dim=1)
            prompts.append(penalty[:, None].expand(-1, kv_heads, -1, -1).flatten(0, 1))
        self._masks[kv_heads, window] = own, prompts
        return own, prompts


def _penalty(outside: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(outside.shape, dtype=dtype, device=outside.device).masked_fill_(outside, MASKED)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(B, Q, d) over (B, S, d) -> mean of the values (B, Q, d), and log-sum-exp of the scores (B, Q, 1) in fp32."""
    scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scale).float()
    weights = scores.softmax(-1)
    # The largest score is log-sum-exp plus the log of its weight: two quick passes instead of another exponential.
    lse = scores.amax(-1, keepdim=True) - weights.amax(-1, keepdim=True).log()
    return weights.to(value.dtype) @ value, lse
