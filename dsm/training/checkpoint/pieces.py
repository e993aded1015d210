"""Named tensors in pieces, however a run is spread: what each process keeps, which of them it writes, what it reads.

torch.distributed.checkpoint does the bookkeeping of pieces in files, which is what lets a run go on in another layout.
Who writes what is settled here, before anything is copied: of a piece that several processes hold (all of a model under
DDP, a shard under HSDP) one takes charge, the same one by every process's reckoning, so that host memory and the disk
see each piece once and all processes write about as much.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.distributed.checkpoint import DefaultLoadPlanner, DefaultSavePlanner, LoadPlan, SavePlan
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import ReadItem, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.tensor import DTensor

from dsm.models.sharding import MESH_DIMS, local, local_slices
from dsm.runtime.launch import World


@dataclass(frozen=True)
class Piece:
    """The part of a tensor that this process keeps: a box, perhaps all of it, perhaps nothing.

    Attributes:
        data: the part itself, to be read or written in place.
        shape: of the whole tensor.
        offsets: of the part's first element.
        spread: the mesh dimensions that the tensor is cut along; over the others it is repeated.
        copy: which of the repetitions this process has.
        copies: how many there are.
    """

    data: Tensor
    shape: torch.Size
    offsets: torch.Size
    spread: frozenset[str] = frozenset()
    copy: int = 0
    copies: int = 1

    @classmethod
    def of(cls, tensor: Tensor, world: World) -> Piece:
        """This process's part of a tensor that is whole, or sharded over dimensions of the world's mesh."""
        slices = local_slices(tensor)
        spread: frozenset[str] = frozenset()
        if isinstance(tensor, DTensor):
            names = tensor.device_mesh.mesh_dim_names or ()
            cut = zip(names, tensor.placements, strict=True)
            spread = frozenset(name for name, placement in cut if not placement.is_replicate())
        layout, rest, copy, copies = world.layout, world.rank, 0, 1
        for name in reversed(MESH_DIMS):  # the last varies fastest
            rest, place = divmod(rest, getattr(layout, name))
            if name not in spread:
                copy, copies = copy + place * copies, copies * getattr(layout, name)
        offsets = torch.Size([cut.start for cut in slices])
        return cls(local(tensor).detach(), tensor.shape, offsets, spread, copy, copies)

    @property
    def chunk(self) -> ChunkStorageMetadata:
        """Where it lies in the whole."""
        return ChunkStorageMetadata(self.offsets, self.data.shape)


def in_charge_of(pieces: Mapping[str, Piece]) -> dict[str, Piece]:
    """The pieces that this process writes; together the processes write each piece once.

    Largest first, each goes to whichever of its holders has least to write so far. All holders of a piece hold the same
    pieces of everything that is spread alike, so each of them finds the same answer without asking.
    """
    mine = {}
    loads: dict[frozenset[str], list[int]] = {}
    for name, piece in sorted(pieces.items(), key=lambda item: (-item[1].data.nbytes, item[0])):
        load = loads.setdefault(piece.spread, [0] * piece.copies)
        least = load.index(min(load))
        load[least] += piece.data.nbytes
        if least == piece.copy and piece.data.numel():
            mine[name] = piece
    return mine


class PieceSaver(DefaultSavePlanner):
    """Plans the writing of pieces by their names; the plans of all processes are checked to make up whole tensors."""

    def __init__(self, pieces: Mapping[str, Piece]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.pieces = pieces

    def create_local_plan(self) -> SavePlan:
        """What this process writes."""
        self.plan = SavePlan([_write_item(name, piece) for name, piece in self.pieces.items()])
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> Tensor | io.BytesIO:
        """The memory to write from."""
        return self.pieces[write_item.index.fqn].data


def _write_item(name: str, piece: Piece) -> WriteItem:
    data = TensorWriteData(piece.chunk, TensorProperties(dtype=piece.data.dtype), piece.shape)
    return WriteItem(MetadataIndex(name, piece.offsets), WriteItemType.SHARD, tensor_data=data)


class PieceLoader(DefaultLoadPlanner):
    """Plans the reading into pieces, whatever pieces were written; only tensors are read, never pickled objects."""

    def __init__(self, pieces: Mapping[str, Piece]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.pieces = pieces

    def create_local_plan(self) -> LoadPlan:
        """What this process reads."""
        assert self.metadata is not None
        items: list[ReadItem] = []
        for name, piece in self.pieces.items():
            if piece.data.numel():
                stored = self.metadata.state_dict_metadata[name]
                items += create_read_items_for_chunk_list(name, stored, [piece.chunk])  # type: ignore[arg-type]
        found = sum(prod(item.lengths) for item in items)
        wanted = sum(piece.data.numel() for piece in self.pieces.values())
        if found != wanted:
            raise ValueError(f"{found} of {wanted} elements are in it")
        return LoadPlan(items)

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Refuse them."""
        raise ValueError(f"{read_item.dest_index.fqn} is no tensor")

    def resolve_tensor(self, read_item: ReadItem) -> Tensor:
        """The memory to read into."""
        data = self.pieces[read_item.dest_index.fqn].data
        for dim, (offset, length) in enumerate(zip(read_item.dest_offsets, read_item.lengths, strict=True)):
            data = data.narrow(dim, offset, length)
        return data
