"""What would fit on a device: the largest micro-batch, and settings under which a run that is too large would do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dsm.config.memory import CHECKPOINTINGS, Work, needed
from dsm.config.parallel import Layout


def largest_microbatch(work: Work, room: float) -> int | None:
    """Sequences of the largest micro-batch that fits, at most all of a step; None where not a single one does."""

    def fits(sequences: int) -> bool:
        return needed(replace(work, sequences=sequences)) <= room

    if not fits(1):
        return None
    if fits(work.share):
        return work.share
    low, high = 1, work.share  # one that fits and one that does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Change:
    """Settings under which a run fits.

    Attributes:
        overrides: as typed behind the command.
        ranks: how many devices it takes then.
        bytes: of one device then.
    """

    overrides: list[str]
    ranks: int
    bytes: int


def changes_that_fit(work: Work, room: float, *, most: int = 4) -> list[Change]:
    """Ways to make a run fit, the least dear first; none that does what another does and more.

    Tried alone and together: smaller micro-batches, sums of gradients after each of them, more checkpointing, shards in
    place of copies, more devices, tensor parallelism. What costs no devices comes before what does.
    """
    found: list[tuple[set[str], Change]] = []
    for _, overrides, other in sorted(_variants(work, room), key=lambda variant: variant[0]):
        keys = {override.partition("=")[0] for override in overrides}
        if any(known <= keys for known, _ in found):
            continue
        found.append((keys, Change(overrides, other.layout.size, needed(other))))
    return [change for _, change in found[:most]]


def _variants(work: Work, room: float) -> Iterator[tuple[float, list[str], Work]]:
    """(dearness, overrides, the work then) of all that fit."""
    for layout_cost, layout in _layouts(work):
        for sums_cost, sums in enumerate(dict.fromkeys([work.reduce_gradients, "microbatch"])):
            if sums_cost and layout.strategy != "fsdp":
                continue
            for mode_cost, mode in enumerate(CHECKPOINTINGS[CHECKPOINTINGS.index(work.checkpointing) :]):
                share = max(1, -(-work.share * work.layout.data_size // layout.data_size))
                other = replace(
                    work,
                    layout=layout,
                    share=share,
                    sequences=min(work.sequences, share),
                    checkpointing=mode,
                    reduce_gradients=sums,
                )
                largest = largest_microbatch(other, room)
                if largest is None:
                    continue
                overrides = [f"model.activation_checkpointing={mode}"] if mode_cost else []
                overrides += [f"parallel.reduce_gradients={sums}"] if sums_cost else []
                overrides += [
                    f"parallel.{name}={getattr(layout, name)}"
                    for name in ("replicate", "shard", "tensor")
                    if getattr(layout, name) != getattr(work.layout, name)
                ]
                cost = layout_cost + 1.5 * mode_cost + 0.8 * sums_cost
                if largest < other.sequences:
                    cost += 0.5 * other.sequences / largest
                    overrides.append(f"parallel.tokens_per_microbatch={largest * work.context}")
                    other = replace(other, sequences=largest)
                if overrides:
                    yield cost, overrides, other


def _layouts(work: Work) -> Iterator[tuple[float, Layout]]:
    """Meshes to try: as it is, shards in place of copies, more devices, tensor parallelism among as many."""
    now, shape = work.layout, work.shape
    yield 0.0, now
    for doublings in range(1, 11):
        factor = 1 << doublings
        if now.replicate % factor == 0:
            yield 1.0 + 0.1 * doublings, Layout("fsdp", now.replicate // factor, now.shard * factor, now.tensor)
        yield 4.0 + doublings, Layout("fsdp", now.replicate, now.shard * factor, now.tensor)
    for tensor in (2, 4, 8):
        factor = tensor // now.tensor
        if factor > 1 and all(size % tensor == 0 for size in (shape.heads, shape.kv_heads, shape.inner)):
            if now.shard % factor == 0:
                yield 2.5 + factor / 4, Layout("fsdp", now.replicate, now.shard // factor, tensor)
            yield 6.0 + factor, Layout("fsdp", now.replicate, now.shard, tensor)
