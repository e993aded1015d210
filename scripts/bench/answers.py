"""Pairs graded a second: dsm's strict grader, in process and through its pool, beside Math-Verify, in one run.

    python scripts/bench/answers.py --data ../shared/data    # 5,000 references of MATH, 5,276 generations on GSM8K
    python scripts/bench/answers.py --data ../shared/data --every 10

MATH: each reference answer against itself, which a comparison of strings decides for us, and against the next one of
the file, which takes all layers; bare for us and in \\boxed{} for Math-Verify, which needs it. GSM8K: the answer is
found in the model's text and compared with the reference. Math-Verify runs as its README has it, with its own
timeouts. Rates are of CPU seconds, which others on the machine do not change, save the pool's: those are of wall time
and begin when the pool has started. `right` counts verdicts that agree with string equality or with OpenAI's label.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from math_verify import parse, verify

from dsm.answers import GraderPool, extract
from dsm.answers.boxes import boxes
from dsm.answers.strict import grade
from dsm.config.answers import GraderConfig

GOAL = 10
RULES = GraderConfig()


@dataclass(frozen=True)
class Case:
    """A reference, a text that holds an answer, and whether the two agree; `bare`: the text is an answer."""

    gold: str
    text: str
    right: bool
    bare: bool


def math_references(data: Path) -> list[Case]:
    lines = (data / "math" / "math" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    golds = [boxes(json.loads(line)["solution"])[-1].content for line in lines]
    return [Case(gold, gold, True, True) for gold in golds]


def math_neighbours(data: Path) -> list[Case]:
    own = math_references(data)
    return [Case(case.gold, after.gold, case.gold == after.gold, True) for case, after in pairwise(own)]


def gsm8k_generations(data: Path) -> list[Case]:
    lines = (data / "math" / "gsm8k" / "example_model_solutions.jsonl").read_text(encoding="utf-8").splitlines()
    cases = []
    for row in map(json.loads, lines):
        gold = row.pop("ground_truth").rpartition("A:")[2].strip()
        models = [answer for answer in row.values() if isinstance(answer, dict)]
        cases += [Case(gold, answer["solution"], answer["is_correct"], False) for answer in models]
    return cases


LOADERS = {
    "MATH references": math_references,
    "MATH neighbours": math_neighbours,
    "GSM8K generations": gsm8k_generations,
}


def answer_of(case: Case) -> str | None:
    return case.text if case.bare else extract(case.text, "final").answer


def math_verify(cases: Sequence[Case]) -> list[bool]:
    def read(text: str, bare: bool) -> list[object]:
        return parse(f"\\boxed{{{text}}}" if bare else text)

    return [verify(read(case.gold, True), read(case.text, case.bare)) for case in cases]


def strict(cases: Sequence[Case]) -> list[bool]:
    return [(answer := answer_of(case)) is not None and grade(case.gold, answer, RULES).correct for case in cases]


def measure(
    run: Callable[[Sequence[Case]], list[bool]], cases: Sequence[Case], clock: Callable[[], float]
) -> tuple[float, int]:
    """Pairs a second, and how many verdicts are right."""
    start = clock()
    verdicts = run(cases)
    seconds = clock() - start
    return len(cases) / seconds, sum(verdict == case.right for verdict, case in zip(verdicts, cases, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds math/math and math/gsm8k")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th pair")
    parser.add_argument("--workers", type=int, help="of the pool; default: one for each usable core")
    args = parser.parse_args()

    missed = False
    grade("x+1", "1+x", RULES)  # what is imported on first use
    verify(parse("$x+1$"), parse("$1+x$"))
    print(f"{'':20}{'':24}{'pairs/s':>10}{'ratio':>8}{'right':>14}")
    for name, load in LOADERS.items():
        cases = load(args.data)[:: args.every]
        with GraderPool(RULES, args.workers) as pool:

            def pooled(cases: Sequence[Case], pool: GraderPool = pool) -> list[bool]:
                return [verdict.correct for verdict in pool.grade([(case.gold, answer_of(case)) for case in cases])]

            methods: list[tuple[str, Callable[[Sequence[Case]], list[bool]], Callable[[], float]]] = [
                ("Math-Verify", math_verify, time.process_time),
                ("dsm strict", strict, time.process_time),
                ("dsm strict, pool", pooled, time.perf_counter),
            ]
            base = 0.0
            for method, run, clock in methods:
                rate, right = measure(run, cases, clock)
                base = base or rate
                print(f"{name:20}{method:24}{rate:10,.0f}{rate / base:8.1f}{right:8,}/{len(cases):,}")
                missed |= method == "dsm strict" and rate < GOAL * base
    print(f"goal for dsm strict: >= {GOAL}x Math-Verify: {'MISSED' if missed else 'met'}")


if __name__ == "__main__":
    main()
