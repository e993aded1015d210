"""The pool: deadlines kept by killing, nothing lost, nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsm.answers import GraderPool, Verdict
from dsm.config.answers import GraderConfig

OBEDIENT = "graders:obedient"
HERE = str(Path(__file__).parent)
DEADLINE = 0.5


def reasons(verdicts: list[Verdict]) -> list[str]:
    return [verdict.reason for verdict in verdicts]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def one_pool() -> Iterator[GraderPool]:
    with GraderPool(GraderConfig(timeout_s=DEADLINE), 2, grade=OBEDIENT) as pool:
        yield pool


@pytest.fixture
def pool(one_pool: GraderPool) -> GraderPool:
    one_pool._cache.clear()
    return one_pool


@pytest.fixture(scope="module")
def strict() -> Iterator[GraderPool]:
    with GraderPool(GraderConfig(), 2) as pool:
        yield pool


# ---------------------------------------------------------------- verdicts


def test_verdicts_come_in_order_whatever_process_gave_them(pool: GraderPool) -> None:
    pairs = [(str(i), str(i if i % 3 else -i - 1)) for i in range(500)]
    verdicts = pool.grade(pairs)
    assert [verdict.correct for verdict in verdicts] == [bool(i % 3) for i in range(500)]
    assert str(os.getpid()) not in reasons(verdicts)


def test_workers_work_at_the_same_time(pool: GraderPool) -> None:
    start = time.monotonic()
    verdicts = pool.grade([("a", "sleep:0.4"), ("b", "sleep:0.4")])
    assert time.monotonic() - start < 0.75
    assert len(set(reasons(verdicts))) == 2


def test_no_answer_is_ungradable(pool: GraderPool) -> None:
    assert pool.grade([("1", None), ("1", "1")])[0] == Verdict("ungradable", "no answer")
    assert pool.grade([]) == []


def test_a_pair_is_graded_once(pool: GraderPool, tmp_path: Path) -> None:
    first, again = pool.grade([("a", "a"), ("a", "a")])
    assert first is again
    assert pool.grade([("a", "a")])[0] is first
    slow = [("a", "sleep:0.2")]
    pool.grade(slow)
    start = time.monotonic()
    pool.grade(slow * 100)
    assert time.monotonic() - start < 0.1


def test_the_cache_forgets_what_was_used_least_lately() -> None:
    with GraderPool(GraderConfig(cache_size=2), 1, grade=OBEDIENT) as pool:
        kept, dropped = pool.grade([("k", "k"), ("d", "d")])
        assert pool.grade([("k", "k")])[0] is kept
        pool.grade([("new", "new")])
        assert pool.grade([("k", "k")])[0] is kept
        assert pool.grade([("d", "d")])[0] is not dropped


def test_text_of_any_kind_reaches_the_grader(pool: GraderPool) -> None:
    texts = ["", "\n", "\0", "\ud800", "答案", "\u2028", '"\\', "x" * 2_000_000]
    assert all(verdict.correct for verdict in pool.grade([(text, text) for text in texts]))


def test_plain_numbers_are_decided_here_and_as_the_worker_would(strict: GraderPool) -> None:
    pairs = [("1,234.50", "1234.5"), ("-3", "3"), ("0.5", "50%"), ("$5", "5"), ("7", "7.0"), ("007", "7")]
    here = strict.grade(pairs)
    there = strict._crew.grade(pairs)
    assert here == there
    assert {verdict.correct for verdict in here} == {True, False}


# ---------------------------------------------------------------- deadlines and deaths


@pytest.mark.parametrize("bomb", ["loop", "power", "sleep:60", "recurse"])
def test_a_pair_over_the_deadline_costs_nothing_but_itself(pool: GraderPool, bomb: str) -> None:
    pairs = [(str(i), str(i)) for i in range(40)]
    start = time.monotonic()
    verdicts = pool.grade([*pairs[:20], ("0", bomb), *pairs[20:]])
    took = time.monotonic() - start
    assert all(verdict.correct for verdict in verdicts[:20] + verdicts[21:])
    assert verdicts[20] == Verdict("ungradable", "timeout" if bomb != "recurse" else "error: RecursionError")
    assert took < DEADLINE + 2


def test_deadlines_hold_in_every_thread_at_once(pool: GraderPool) -> None:
    results: dict[int, list[Verdict]] = {}

    def work(number: int) -> None:
        results[number] = pool.grade([("a", "a"), ("a", f"sleep:{60 + number}"), (str(number), str(number))])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [[v.outcome for v in results[n]] for n in range(4)] == [["correct", "ungradable", "correct"]] * 4


def test_deadlines_hold_inside_asyncio(pool: GraderPool) -> None:
    async def main() -> list[list[Verdict]]:
        direct = pool.grade([("a", "loop"), ("b", "b")])
        return [direct, *await asyncio.gather(*(asyncio.to_thread(pool.grade, [(str(i), str(i))]) for i in range(8)))]

    first, *others = asyncio.run(main())
    assert reasons(first[:1]) == ["timeout"]
    assert first[1].correct
    assert all(verdicts[0].correct for verdicts in others)


def test_a_pair_that_kills_its_worker_twice_has_crashed(pool: GraderPool) -> None:
    verdicts = pool.grade([("a", "a"), ("a", "die"), ("b", "b"), ("a", "die:again"), ("c", "c")])
    assert [verdict.outcome for verdict in verdicts] == ["correct", "ungradable", "correct", "ungradable", "correct"]
    assert reasons(verdicts)[1::2] == ["crashed", "crashed"]


def test_a_worker_that_dies_for_another_cause_loses_nothing(pool: GraderPool, tmp_path: Path) -> None:
    pairs = [("a", "a"), ("x", f"die once:{tmp_path / 'died'}"), ("b", "b")]
    assert all(verdict.correct for verdict in pool.grade(pairs))
    assert (tmp_path / "died").exists()


def test_an_exception_of_the_grader_is_a_verdict(pool: GraderPool) -> None:
    assert pool.grade([("a", "raise:x"), ("b", "b")])[0] == Verdict("ungradable", "error: ValueError")


def test_a_dead_nursery_is_replaced(pool: GraderPool) -> None:
    (worker,) = pool.grade([("a", "a")])
    pool._crew.nursery.process.kill()
    assert gone([int(worker.reason)])
    verdicts = pool.grade([(str(i), str(i)) for i in range(20)])
    assert all(verdict.correct for verdict in verdicts)


# ---------------------------------------------------------------- limits


def test_workers_are_replaced_after_so_many_pairs() -> None:
    with GraderPool(GraderConfig(recycle_pairs=10), 1, grade=OBEDIENT) as pool:
        pids = [pool.grade([(str(i), str(i))])[0].reason for i in range(30)]
        assert len(set(pids)) == 3
        assert [len(set(pids[i : i + 10])) for i in (0, 10, 20)] == [1, 1, 1]
        assert gone([int(pid) for pid in pids[:20]])


def test_workers_are_replaced_when_they_have_grown() -> None:
    with GraderPool(GraderConfig(memory_mb=200, timeout_s=30), 1, grade=OBEDIENT) as pool:
        (before,) = pool.grade([("a", "a")])
        (grown,) = pool.grade([("a", "keep:250")])
        (after,) = pool.grade([("b", "b")])
        assert before.reason == grown.reason != after.reason


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits addresses")
def test_memory_has_a_limit() -> None:
    with GraderPool(GraderConfig(memory_mb=200), 1, grade=OBEDIENT) as pool:
        assert pool.grade([("a", "memory:4000"), ("b", "b")])[0] == Verdict("ungradable", "memory")


# ---------------------------------------------------------------- start and end


def test_workers_that_do_not_start_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="No module named 'no_such_grader'"):
        GraderPool(GraderConfig(), 1, grade="no_such_grader:grade")


def test_close_ends_everything_and_may_be_repeated() -> None:
    pool = GraderPool(GraderConfig(timeout_s=30), 2, grade=OBEDIENT)
    pids = [int(reason) for reason in set(reasons(pool.grade([(str(i), str(i)) for i in range(200)])))]
    errors: list[Exception] = []

    def wait() -> None:
        try:
            pool.grade([("a", "loop")])
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    pool.close()
    pool.close()
    thread.join(5)
    assert len(errors) == 1
    assert gone([*pids, pool._crew.nursery.process.pid])
    with pytest.raises(RuntimeError, match="closed"):
        pool.grade([("a", "a")])


def test_an_unused_pool_goes_away() -> None:
    pool = GraderPool(GraderConfig(), 1, grade=OBEDIENT)
    pid = int(pool.grade([("a", "a")])[0].reason)
    del pool
    assert gone([pid])


SCRIPT = """
import os, sys, threading, time
sys.path.insert(0, {here!r})
from dsm.answers import GraderPool
from dsm.config.answers import GraderConfig
pool = GraderPool(GraderConfig(timeout_s=60), 2, grade="graders:obedient")
pids = {{v.reason for v in pool.grade([(str(i), str(i)) for i in range(200)])}}
print(*pids, pool._crew.nursery.process.pid, flush=True)
threading.Thread(target=lambda: pool.grade([("a", "loop"), ("a", "power")]), daemon=True).start()
time.sleep(0.2)
{ending}
"""


@pytest.mark.parametrize(
    "ending",
    ["", "sys.exit(3)", "raise ValueError", "os._exit(0)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 15)"],
)
def test_nothing_outlives_the_process_that_made_the_pool(ending: str) -> None:
    command = [sys.executable, "-c", SCRIPT.format(here=HERE, ending=ending)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert gone([int(pid) for pid in run.stdout.split()]), run.stderr


def test_a_forked_process_gets_workers_of_its_own(pool: GraderPool) -> None:
    ours = set(reasons(pool.grade([(str(i), str(i)) for i in range(200)])))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        verdict = pool.grade([("b", "b")])[0]
        os.write(writer, verdict.reason.encode())
        os._exit(0)
    os.close(writer)
    theirs = os.read(reader, 100).decode()
    os.close(reader)
    assert os.waitpid(pid, 0)[1] == 0
    assert theirs not in {"", *ours}
    assert gone([int(theirs)])
    assert pool.grade([("c", "c")])[0].correct
    assert all(alive(int(pid)) for pid in ours)


def test_workers_and_imports_are_light() -> None:
    code = "import sys; import dsm.answers; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "sympy", "mpmath", "math_verify", "numpy", "transformers"} & set(loaded)


def test_ctrl_c_at_the_terminal_leaves_the_workers_alone(pool: GraderPool) -> None:
    pids = set(reasons(pool.grade([(str(i), str(i)) for i in range(200)])))
    for pid in pids:
        os.kill(int(pid), signal.SIGINT)
    assert all(verdict.correct for verdict in pool.grade([(f"again {i}", f"again {i}") for i in range(200)]))
    assert all(alive(int(pid)) for pid in pids)
