"""A rank that dies, stops or hangs ends its whole job with one message; one that is slow does not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from dsm.errors import LOST_RANK
from dsm.runtime import watch
from tests.runtime import crew

TROUBLES = (
    crew.killed,
    crew.first_killed,
    crew.stopped,
    crew.endless,
    crew.native,
    crew.bug,
    crew.mistake,
    crew.slow,
    crew.late,
)


@dataclass(frozen=True)
class End:
    """How a crew of two ended."""

    statuses: list[int | None]
    texts: list[str]
    seconds: float

    @property
    def messages(self) -> list[str]:
        """What dsm said, of all ranks together."""
        return [line for text in self.texts for line in text.splitlines() if line.startswith("dsm: ")]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[Callable[..., None], End]:
    """All troubles at once: most of them are waits."""
    folder = tmp_path_factory.mktemp("crews")
    began = time.monotonic()
    crews = {trouble: crew.start(trouble, folder / trouble.__name__) for trouble in TROUBLES}
    ended: dict[Callable[..., None], float] = {}
    deadline = began + 60.0
    while len(ended) < len(crews) and time.monotonic() < deadline:
        for trouble, processes in crews.items():
            if trouble not in ended and all(process.exitcode is not None for process in processes):
                ended[trouble] = time.monotonic() - began
        time.sleep(0.02)
    found = {}
    for trouble, processes in crews.items():
        statuses = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
            process.join()
        texts = [(folder / trouble.__name__ / str(rank)).read_text() for rank in range(2)]
        found[trouble] = End(statuses, texts, ended.get(trouble, float("inf")))
    return found


@pytest.mark.parametrize(("trouble", "dead"), [(crew.killed, 1), (crew.first_killed, 0)])
def test_a_dead_rank(ends: dict[Callable[..., None], End], trouble: Callable[..., None], dead: int) -> None:
    """Noticed at once by its neighbours, without a word of torch's."""
    end = ends[trouble]
    assert end.statuses == ([LOST_RANK, -9] if dead else [-9, LOST_RANK])
    (message,) = end.messages
    assert message.startswith(f"dsm: rank {dead} of 2 (process ")
    assert "died" in message
    assert "the same command goes on from the last checkpoint" in message
    assert "".join(end.texts).strip() == message
    assert end.seconds < ends[crew.stopped].seconds


def test_a_stopped_rank(ends: dict[Callable[..., None], End]) -> None:
    """It cannot end itself, so its neighbour ends it."""
    end = ends[crew.stopped]
    assert end.statuses == [LOST_RANK, -9]
    (message,) = end.messages
    assert "rank 1 of 2" in message
    assert "is stopped (SIGSTOP)" in message
    assert "no sign of life for" in message


def test_an_endless_loop(ends: dict[Callable[..., None], End]) -> None:
    """The message shows where it runs."""
    end = ends[crew.endless]
    assert end.statuses == [LOST_RANK, LOST_RANK]
    (message,) = end.messages
    assert "rank 1 of 2" in message
    assert f"hangs in step {crew.TROUBLE_AT}" in message
    assert f"(parallel.timeout_s={crew.TIMEOUT_S:g}) while the others wait" in message
    text = "".join(end.texts)
    assert text.rstrip().endswith("time.sleep(0.001)")
    assert "in endless" in text


def test_native_code_that_never_returns(ends: dict[Callable[..., None], End]) -> None:
    """No thread of that interpreter runs any more; faulthandler's clock does."""
    end = ends[crew.native]
    assert end.statuses == [LOST_RANK, -9]
    (message,) = end.messages
    assert "rank 1 of 2" in message
    assert "is stuck in native code" in message
    assert "in native" in "".join(end.texts)


def test_a_bug_and_a_mistake_of_one_rank(ends: dict[Callable[..., None], End]) -> None:
    """The one with its traceback, the other as the line that it is."""
    end = ends[crew.bug]
    assert end.statuses == [1, 1]
    (message,) = end.messages
    assert "rank 1 of 2" in message
    assert message.endswith("ValueError: boom; the traceback is in its own output")
    assert "Traceback" not in end.texts[0]
    assert "Traceback" in end.texts[1]
    end = ends[crew.mistake]
    assert end.statuses == [2, 2]
    assert end.messages == ["dsm: rank 1: data=x: no"]


@pytest.mark.parametrize("trouble", [crew.slow, crew.late])
def test_slow_is_not_dead(ends: dict[Callable[..., None], End], trouble: Callable[..., None]) -> None:
    """A rank that is patient with itself, or tells its progress, keeps the others waiting as long as it likes."""
    end = ends[trouble]
    assert end.statuses == [0, 0]
    assert "".join(end.texts) == ""
    assert end.seconds > crew.TIMEOUT_S


def test_whatever_hangs_ends_in_time(ends: dict[Callable[..., None], End]) -> None:
    """The time-out, and what starting the processes took (those that were killed at once show it)."""
    start_s = ends[crew.killed].seconds
    for trouble in (crew.stopped, crew.endless, crew.native):
        assert ends[trouble].seconds < start_s + crew.TIMEOUT_S + 4.0, trouble


def test_progress_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a single process nobody listens."""
    watch.progress("step 1")
    assert watch._current is None


def test_what_breaks_a_connection() -> None:
    gloo = RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:4711")
    other = ValueError("unrelated")
    other.__cause__ = gloo
    assert watch._lost_connection(gloo)
    assert watch._lost_connection(other)
    assert not watch._lost_connection(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not watch._lost_connection(ValueError("Connection closed by peer"))


def test_compiling_shows_on_the_stack() -> None:
    """torch.compile's own frames, wherever torch is installed."""
    assert not watch._compiling()
    source = "def compile(then): return then()"
    found: dict[str, Callable[..., bool]] = {}
    exec(compile(source, os.path.join("site-packages", "torch", "_dynamo", "convert_frame.py"), "exec"), found)
    assert found["compile"](watch._compiling)
