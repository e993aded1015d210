"""Steps side by side: who starts when, what a failure or a signal does, and that no kill changes what comes out."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dsm.config.references import Step
from dsm.errors import LOST_RANK, LostRankError, StoppedError, UserError
from dsm.pipeline import process
from dsm.pipeline.journal import Entry, Journal, covered
from dsm.pipeline.process import StepProcess
from tests.pipeline.toys import GRAPH, outcome, run_toys, start_toys, starts, toy_command, toy_steps


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "command", toy_command)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed pipeline leaves, its steps one after another."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "command", toy_command)
        run_toys(folder, toy_steps(folder))
    assert starts(folder) == [(name, 0) for name in GRAPH]
    return outcome(folder)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def fresh(card: Path, started: float) -> bool:
    """Does a card tell of a step that began since then?"""
    return card.exists() and json.loads(card.read_text())["began"] >= started


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_step_starts_when_what_feeds_it_has_ended_and_never_more_than_asked(
    at_once: int, whole: dict[str, str], tmp_path: Path
) -> None:
    journal = run_toys(tmp_path, toy_steps(tmp_path), at_once)
    spans = {entry.step: (entry.began, entry.began + entry.seconds) for entry in journal.entries}
    for name, fed_by in GRAPH.items():
        assert all(spans[other][1] <= spans[name][0] for other in fed_by)
    beside = [sum(begin <= start < end for begin, end in spans.values()) for start, _ in spans.values()]
    assert max(beside) == min(at_once, 2)  # two columns, so no more than two can ever run
    assert outcome(tmp_path) == whole
    assert all(entry.cpu_seconds is not None and 0 < entry.cpu_seconds < 10 for entry in journal.entries)
    assert not list((tmp_path / "running").iterdir())


def test_alone_a_step_has_the_terminal_beside_others_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_toys(tmp_path / "one", toy_steps(tmp_path / "one"), at_once=1, threads=7)
    assert "c reads 1 of 7" in capfd.readouterr().out
    run_toys(tmp_path / "two", toy_steps(tmp_path / "two"), at_once=2)
    out, err = capfd.readouterr()
    assert "reads" not in out + err
    assert [line for line in err.splitlines() if "b" in line.split(": ")[1:2]]  # it is told of in whole lines
    lines = (tmp_path / "two/output/c.log").read_text().splitlines()
    assert lines[0].startswith("$ dsm c ")
    assert lines[-1] == "counted 3 of 3"


def test_a_failure_starts_nothing_more_has_the_others_save_and_shows_what_the_step_said(
    tmp_path: Path, whole: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """c fails while d runs: d saves, e does not start; then the same again goes on with both."""
    steps = toy_steps(tmp_path, long="d", fails={"c": "once"})
    with pytest.raises(UserError, match=r"step 3 of 5: c ended with status 2; its own message stands above"):
        run_toys(tmp_path, steps, at_once=2)
    ends = dict(starts(tmp_path))
    assert ends.pop("a") == 0
    assert ends.pop("c") == 2
    assert ends in ({"b": 0, "d": 143}, {"b": 0}, {"b": 143})  # c waits for a alone: it may fail before b has ended
    err = capsys.readouterr().err
    assert "  | dsm: c: wrong; allowed: right\n" in err
    run_toys(tmp_path, toy_steps(tmp_path), at_once=2)
    assert outcome(tmp_path) == whole
    assert [name for name, _ in starts(tmp_path)].count("a") == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(137, SystemExit), (1, SystemExit), (LOST_RANK, LostRankError), (143, StoppedError), (2, UserError)],
)
def test_the_pipeline_ends_as_its_step_did(
    status: int, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = f"kill -{status - 128} $$" if status > 128 else f"exit {status}"
    monkeypatch.setattr(process, "command", lambda step: ["/bin/sh", "-c", ending])
    with pytest.raises(error) as raised:
        run_toys(tmp_path, toy_steps(tmp_path))
    if isinstance(raised.value, SystemExit):
        assert raised.value.code == status
    assert starts(tmp_path) == [("a", status)]


def test_a_step_that_leaves_nothing_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "command", lambda step: ["/bin/true"])
    with pytest.raises(UserError, match=r"step 1 of 5: a ended well, but not in .*/runs/a: conf/ has changed"):
        run_toys(tmp_path, toy_steps(tmp_path), at_once=2)


@pytest.mark.parametrize(("number", "at_once"), [(signal.SIGTERM, 2), (signal.SIGINT, 1), (signal.SIGUSR1, 2)])
def test_a_signal_goes_to_every_step_that_runs_and_no_other_starts(
    number: signal.Signals, at_once: int, whole: dict[str, str], tmp_path: Path
) -> None:
    pipeline = start_toys(tmp_path, at_once, long="ab")
    first = ["a", "b"][:at_once]
    wait_until(lambda: all((tmp_path / f"runs/{name}/count").exists() for name in first))
    os.kill(pipeline.pid or 0, number)
    pipeline.join(60)
    err = (tmp_path / "said").read_text()
    assert pipeline.exitcode == 128 + number, err
    assert f"told to save where they are: {', '.join(first)}\n" in err
    assert f"stopped by {number.name}: 0 of 5 steps done; the same command goes on from there" in err
    assert sorted(name for name, _ in starts(tmp_path)) == first
    assert all(status == 128 + number for _, status in starts(tmp_path))
    run_toys(tmp_path, toy_steps(tmp_path), at_once)
    assert outcome(tmp_path) == whole


@pytest.mark.parametrize("at_once", [1, 2])
def test_killed_in_every_step_it_goes_on_and_ends_the_same(at_once: int, whole: dict[str, str], tmp_path: Path) -> None:
    """In the middle of each step SIGKILL hits first the step, then the pipeline; each time the same command follows."""
    for place, name in enumerate(GRAPH):
        count, card = tmp_path / f"runs/{name}/count", tmp_path / f"running/{name}.json"
        for victim in ("step", "pipeline"):
            started, before = time.time(), int(count.read_text()) if count.exists() else 0
            pipeline = start_toys(tmp_path, at_once, long="abcde"[place:])
            wait_until(lambda: fresh(card, started) and count.exists() and int(count.read_text()) > before + 3)  # noqa: B023
            pid = json.loads(card.read_text())["processes"][0]["pid"] if victim == "step" else pipeline.pid
            os.kill(pid, signal.SIGKILL)
            pipeline.join(60)
            assert pipeline.exitcode == (137 if victim == "step" else -9)
    journal = run_toys(tmp_path, toy_steps(tmp_path), at_once)
    assert outcome(tmp_path) == whole
    assert not list((tmp_path / "running").iterdir())
    statuses = [status for _, status in starts(tmp_path)]
    assert statuses.count(137) == 5
    assert statuses.count(None) >= 5  # killed beside the pipeline: for how long they ran is known from their cards
    assert all(0 < entry.seconds < 60 for entry in journal.entries)


def test_the_next_start_waits_for_what_a_killed_pipeline_left(tmp_path: Path) -> None:
    """Its step is saving; until it has ended nobody else may work in its folder."""
    steps = toy_steps(tmp_path, graph={"a": ""})
    (tmp_path / "running").mkdir()
    left = StepProcess.start(steps[0], tmp_path / "running/a.json", None, None)
    began = json.loads((tmp_path / "running/a.json").read_text())["began"]
    journal = run_toys(tmp_path, steps)
    assert [(entry.step, entry.began, entry.status) for entry in journal.entries] == [("a", began, None)]
    assert left.poll() is not None
    assert left.entry is not None
    assert left.entry.status == 0
    assert journal.entries[0].seconds == pytest.approx(left.entry.seconds, abs=0.5)


def test_the_journal_adds_up_what_starts_took_and_knows_each_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "steps.jsonl")
    for entry in (
        Entry("a", 100.0, 4.0, None, None),
        Entry("a", 100.0, 3.9, 0, 1.0),  # the same start, told twice
        Entry("a", 110.0, 5.0, 0, 2.0),
        Entry("b", 112.0, 6.0, 0, 3.0),
    ):
        journal.add(entry)
    again = Journal(tmp_path / "steps.jsonl")
    assert again.entries == journal.entries
    assert (again.seconds("a"), again.seconds("b"), again.seconds("c")) == (9.0, 6.0, None)
    assert (again.cpu_seconds("a"), again.cpu_seconds("c")) == (2.0, None)
    assert covered(again.entries) == 12.0  # 100 to 104, 110 to 118


def _ranks(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> list[Step]:
    """A step of three ranks, each a shell that runs the program."""
    monkeypatch.setattr(process, "command", lambda step: ["/bin/sh", "-c", program])
    (folder / "runs/a").mkdir(parents=True)
    return [replace(step, ranks=3) for step in toy_steps(folder, graph={"a": ""})]


def test_ranks_are_told_what_torchrun_would_tell_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "$RANK/$LOCAL_RANK/$WORLD_SIZE/$LOCAL_WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $OMP_NUM_THREADS"
    program = f"cd {tmp_path}; echo {told} > rank$RANK; echo '{{}}' > runs/a/metrics.json"
    journal = run_toys(tmp_path, _ranks(tmp_path, monkeypatch, program), at_once=2, threads=1)
    lines = [(tmp_path / f"rank{rank}").read_text().split() for rank in range(3)]
    assert [line[0] for line in lines] == ["0/0/3/3", "1/1/3/3", "2/2/3/3"]
    assert {(line[1].split(":")[0], line[2]) for line in lines} == {("127.0.0.1", "1")}
    assert len({line[1] for line in lines}) == 1
    assert [entry.status for entry in journal.entries] == [0]


@pytest.mark.parametrize(
    ("ending", "status", "error"),
    [
        (f"[ $RANK = 1 ] && exit 2; exit {LOST_RANK}", 2, UserError),  # rank 1 is to blame, the others lost it
        (f"[ $RANK = 2 ] && kill -9 $$; exit {LOST_RANK}", 137, SystemExit),
        (f"[ $RANK = 0 ] || exit {LOST_RANK}", LOST_RANK, LostRankError),
    ],
)
def test_a_step_ends_as_its_worst_rank(
    ending: str, status: int, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error):
        run_toys(tmp_path, _ranks(tmp_path, monkeypatch, ending))
    assert starts(tmp_path) == [("a", status)]
    assert not list((tmp_path / "running").iterdir())


def test_every_rank_gets_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = _ranks(
        tmp_path, monkeypatch, f"cd {tmp_path}; trap 'exit 143' TERM; touch up$RANK; while :; do sleep 0.02; done"
    )

    def stop() -> None:
        wait_until(lambda: len(list(tmp_path.glob("up*"))) == 3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(StoppedError):
        run_toys(tmp_path, steps, at_once=3)
    assert starts(tmp_path) == [("a", 143)]
