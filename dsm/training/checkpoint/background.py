"""Writing while the run goes on: a copy in host memory, a thread, and an error that is not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dsm.training.checkpoint.pieces import Piece


class Staging:
    """Host memory for copies of pieces, kept from one copy to the next: to get it costs more than to fill it."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def copy(self, pieces: Mapping[str, Piece]) -> dict[str, Piece]:
        """The same pieces in memory that training does not touch; complete when this returns.

        The copies of the last call are overwritten. From a GPU they go to pinned memory.
        """
        copies = {}
        for name, piece in pieces.items():
            data, buffer = piece.data, self._buffers.get(name)
            if buffer is None or buffer.shape != data.shape or buffer.dtype != data.dtype:
                buffer = torch.empty(data.shape, dtype=data.dtype, pin_memory=data.is_cuda)
                self._buffers[name] = buffer
            buffer.copy_(data, non_blocking=True)
            copies[name] = replace(piece, data=buffer)
        if any(piece.data.is_cuda for piece in pieces.values()):
            torch.cuda.current_stream().synchronize()
        return copies

    def release(self) -> None:
        """Give the memory back."""
        self._buffers.clear()


class Background:
    """One job at a time in a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Run a job; the one before must have been waited for."""
        assert self._thread is None
        self._thread = threading.Thread(target=self._run, args=(job,), name="checkpoint", daemon=True)
        self._thread.start()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self._error = error

    @property
    def failed(self) -> bool:
        """Has the job failed? `wait` raises its error."""
        return self._error is not None

    def wait(self) -> None:
        """Until the job is done, if there is one; raises what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
