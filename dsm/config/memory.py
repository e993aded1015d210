"""Memory of one device at the moments of a step where it can peak, from shapes alone. Plain arithmetic, no torch.

It counts what the code allocates: `dsm.training.step` (micro-batches, one sum of gradients), `dsm.models.wrapper`
(checkpointing), `dsm.models.sharding` (units of FSDP2), `dsm.ops.logprobs` (the head). `scripts/bench/memory.py` prints
it beside what real steps of a real model take, part by part.

Left out, for they depend on the machine: the CUDA context, fragmentation, buffers inside kernels and collectives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dsm.config.estimate import ModelShape
from dsm.config.parallel import Layout

Checkpointing = Literal["none", "selective", "full"]
CHECKPOINTINGS: tuple[Checkpointing, ...] = ("none", "selective", "full")

PARTS = (
    "parameters, fp32", "gradients, fp32", "AdamW state, fp32", "bf16 copies of matrices", "gathered weights",
    "activations", "logits and head", "buffers of sums",
)  # fmt: skip
"""What memory is for, in the order to tell it."""

LOGITS_TILE_BYTES = {"gpu": 256 << 20, "cpu": 16 << 20}
"""Size of one fp32 tile of logits, as in `dsm.ops.logprobs` (a test holds the two together)."""
LOGITS_MIN_TILE = 1024
"""Columns that a tile has at least, as there."""


@dataclass(frozen=True)
class Work:
    """What one device computes in a step.

    Attributes:
        shape: the model's.
        layout: how it is spread; of `tensor` this device has one part of each matrix of a block.
        device: 'gpu' (flash kernels in bf16) or 'cpu' (attention in fp32).
        precision: 'bf16' or 'fp32'; parameters and optimiser are fp32 under both.
        context: tokens of a sequence.
        sequences: of one micro-batch.
        share: sequences of this rank in a step, at most.
        checkpointing: what of a block is computed again in backward.
        reshard_after_forward: are a block's gathered weights dropped between forward and backward?
        reduce_gradients: what adds up over a step's micro-batches: shards of gradients ('microbatch') or whole ones.
    """

    shape: ModelShape
    device: Literal["gpu", "cpu"]
    precision: str
    context: int
    sequences: int
    share: int
    layout: Layout = field(default_factory=Layout)
    checkpointing: Checkpointing = "none"
    reshard_after_forward: bool = True
    reduce_gradients: Literal["step", "microbatch"] = "step"

    @property
    def tokens(self) -> int:
        """Of one micro-batch."""
        return self.context * self.sequences

    @property
    def microbatches(self) -> int:
        """Of a step."""
        return -(-self.share // self.sequences)

    @property
    def sharded(self) -> bool:
        """Are parameters spread by FSDP2?"""
        return self.layout.strategy == "fsdp"

    @property
    def stream(self) -> int:
        """Bytes of an element of the residual stream: FSDP2 computes in bf16 throughout, autocast in places."""
        return 2 if self.sharded and self.precision == "bf16" else 4

    @property
    def operand(self) -> int:
        """Bytes of an element of a product's operands."""
        return 2 if self.precision == "bf16" else 4

    @property
    def matrices(self) -> int:
        """Elements of one block's matrices on this device."""
        return self.shape.layer_matrices // self.layout.tensor

    @property
    def block(self) -> int:
        """Parameters of one block: the unit that FSDP2 gathers and scatters."""
        return self.matrices + self.shape.layer_vectors

    @property
    def largest(self) -> int:
        """Elements of a block's largest matrix on this device."""
        return self.shape.hidden * max(self.shape.inner, self.shape.heads * self.shape.head_dim) // self.layout.tensor

    @property
    def root(self) -> int:
        """Parameters of the root's unit: embedding, final norm, head."""
        return self.shape.embeddings + self.shape.hidden

    @property
    def whole(self) -> int:
        """Parameters of a copy of the model, as far as `tensor` leaves them to this device."""
        return self.shape.layers * self.block + self.root


@dataclass(frozen=True)
class Activations:
    """Bytes a token that autograd keeps.

    Attributes:
        layer: of one block, all of it.
        kept: of one block between forward and backward, as checkpointing leaves it.
        final: behind the last block: what the final norm keeps, the head's input.
    """

    layer: int
    kept: int
    final: int


def activations(work: Work) -> Activations:
    """What autograd keeps of one token.

    A norm keeps its input in fp32 (in bf16 throughout its normalised form too), every linear map its input (under
    autocast a bf16 copy for each map), attention its queries, keys, values and output, SiLU and the product their
    operands. With H, I, A, K = hidden, inner, heads x head_dim, kv heads x head_dim, of which `tensor` leaves one
    device a part of I, A and K:

        fp32                       16 H + 12 A + 8 K + 16 I
        bf16 under autocast        18 H + attention + 8 I
        bf16 of FSDP2              16 H + attention + 8 I
        attention, bf16            4 A + 4 K on a GPU, 10 A + 8 K on a CPU, where it computes in fp32

    Selective checkpointing computes norms and the feed-forward network again: it keeps their inputs, what the
    projections read, and attention. Full checkpointing keeps the block's input.
    """
    shape, parts = work.shape, work.layout.tensor
    hidden, inner = shape.hidden, shape.inner // parts
    wide, narrow = shape.heads * shape.head_dim // parts, shape.kv_heads * shape.head_dim // parts
    if work.precision == "fp32":
        attention, layer, selective, final = 12 * wide + 8 * narrow, 16 * hidden + 16 * inner, 16 * hidden, 8 * hidden
    else:
        attention = 4 * wide + 4 * narrow if work.device == "gpu" else 10 * wide + 8 * narrow
        if work.stream == 2:
            layer, selective, final = 16 * hidden + 8 * inner, 8 * hidden, 8 * hidden
        else:
            layer, selective, final = 18 * hidden + 8 * inner, 18 * hidden, 6 * hidden
    layer += attention
    kept = {"none": layer, "selective": selective + attention, "full": work.stream * hidden}[work.checkpointing]
    return Activations(layer, kept, final)


def peak(work: Work) -> tuple[str, dict[str, int]]:
    """The moment of a step at which memory peaks, and the bytes of each part then."""
    found = moments(work)
    moment = max(found, key=lambda name: sum(found[name].values()))
    return moment, found[moment]


def moments(work: Work) -> dict[str, dict[str, int]]:
    """Bytes by what they are for, at the moments where a step can peak (its last micro-batch, from the second step on).

    - in the head, forward and backward: all activations are there and the gradients of the micro-batches before;
    - in the last block's backward: likewise, with what it computes again, its gradients and its gathered weights;
    - after backward: all gradients, the embedding's last;
    - in the update.
    """
    shape, layout, tokens = work.shape, work.layout, work.tokens
    act = activations(work)
    kept = (shape.layers * act.kept + act.final) * tokens
    head = 4 * shape.vocab * shape.hidden
    base = {"parameters, fp32": 4 * work.whole // layout.shard, "AdamW state, fp32": 8 * work.whole // layout.shard}

    # What the micro-batches before the last have made is whole where ranks sum once a step. DDP's buckets, which live
    # on from step to step, are filled by the last: what was made without them lies beside them.
    after = 4 * work.whole // layout.shard
    several = work.microbatches > 1
    scattered = work.sharded and work.reduce_gradients == "microbatch"
    before = (after if scattered else 4 * work.whole) if several else 0
    if layout.strategy == "ddp":
        before += after
    shared = head if shape.tied else 0  # waits, all through backward, for the embedding's part
    fresh = 4 * (work.largest if several and not scattered else work.block)

    copies, recomputing, label = 0, 0, "bf16 copies of matrices"
    forward_only = sums = block = 0
    if work.sharded:
        label, block = "gathered weights", work.operand * work.block
        copies = work.operand * work.root + (0 if work.reshard_after_forward else shape.layers * block)
        forward_only = block  # the last gathered
        recomputing = 2 * block if work.reshard_after_forward else 0  # the one in use, the one fetched ahead
        sums = 4 * work.block + 4 * work.block // layout.shard
    elif work.precision == "bf16":
        copies = 2 * shape.layers * work.matrices
        if work.checkpointing == "full":  # autocast forgets them after forward, and backward casts a block's again
            forward_only, copies, recomputing = copies, 0, 2 * work.matrices

    logits_forward, logits_backward = _head_bytes(work)
    again = 0 if work.checkpointing == "none" else act.layer - act.kept
    in_head = base | {"gradients, fp32": before, "activations": kept}
    found = {
        "in the head, forward": in_head | {label: copies + forward_only, "logits and head": logits_forward},
        "in the head, backward": in_head | {label: copies, "logits and head": logits_backward},
        "in the last block, backward": base
        | {
            "gradients, fp32": before + shared + fresh,
            label: copies + recomputing,
            "activations": kept + (again + _block_bytes(work) - act.final) * tokens,
            "buffers of sums": sums,
        },
        "after backward": base
        | {
            "gradients, fp32": max(before, after) if layout.strategy == "ddp" else after,
            label: work.operand * work.root if work.sharded else 0,
            "logits and head": shared + (head if several else 0),
            "buffers of sums": 4 * work.root + 4 * work.root // layout.shard if work.sharded else 0,
        },
        "in the update": base | {"gradients, fp32": after},
    }
    return {moment: {part: parts[part] for part in PARTS if parts.get(part)} for moment, parts in found.items()}


def _head_bytes(work: Work) -> tuple[int, int]:
    """What the head allocates in forward and in backward: tiles of logits, casts, the gradients of both operands."""
    shape, tokens = work.shape, work.tokens
    columns = min(shape.vocab, max(LOGITS_MIN_TILE, LOGITS_TILE_BYTES[work.device] // (4 * tokens)))
    tile = 4 * tokens * columns
    stored = 2 if work.stream == 2 else 4  # of the head's weight as autograd sees it
    casts, rounded = 0, 0  # of operands; of a tile's gradient or of the weight's, on its way to another type
    if work.precision == "bf16" and work.device == "cpu":
        casts = 4 * tokens * shape.hidden + (4 if stored == 2 else 6) * columns * shape.hidden
        rounded = 4 * columns * shape.hidden if stored == 2 else 0
    elif work.precision == "bf16":
        casts, rounded = (2 * columns * shape.hidden if stored == 4 else 0), tile // 2
    gradients = 4 * tokens * shape.hidden + stored * shape.vocab * shape.hidden
    kept = tile if columns == shape.vocab else 0  # the only one is not computed again
    return 2 * tile + casts, kept + tile + casts + rounded + gradients


def _block_bytes(work: Work) -> int:
    """What a block's backward allocates a token: gradients of the feed-forward operands, of the stream and a norm."""
    return 2 * work.operand * work.shape.inner // work.layout.tensor + 16 * work.shape.hidden


def needed(work: Work) -> int:
    """Bytes at the peak."""
    return sum(peak(work)[1].values())
