"""Arithmetic word problems with worked solutions, made from templates: the data of the quickstart.

A set comes from one `random.Random(seed)`: the same call gives the same problems on every machine. Language and style
change the wording only, never the numbers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dsm.data.formats import question_suffix
from dsm.data.problem_story import SCALES, Difficulty, Style
from dsm.data.problem_templates import TEMPLATES, Template, tell
from dsm.errors import UserError

Language = Literal["en", "zh", "mixed"]
MAX_STEPS = 3
_PATIENCE = 2000  # draws in a row that were all known already before we say that there are no more problems


@dataclass(frozen=True)
class Problem:
    """One problem. `solution` is in the style asked for; `program` defines `solution()`, which returns the answer."""

    question: str
    solution: str
    answer: str
    program: str
    kind: str
    steps: int
    language: str
    style: Style = "cot"


def generate_problems(
    n: int,
    seed: int | str,
    *,
    language: Language = "en",
    steps: tuple[int, int] = (1, 3),
    style: Style | Literal["mixed"] = "cot",
    difficulty: Difficulty = "easy",
    lines: bool = False,
    kinds: Sequence[str] | None = None,
    taken: Iterable[str] = (),
) -> list[Problem]:
    """`n` problems with distinct questions.

    Results of "first" stay within 20, those of "basic" within 50 and its products within the tables of 10; it adds and
    takes away up to 12 ("first" up to 9), or an earlier result. "easy" stays below 200 and multiplies by one-digit
    numbers; "hard" goes to 999.
    A longer list from the same seed begins with the shorter one.

    Args:
        steps: the smallest and largest number of calculations in a solution.
        style: of the solutions; mixed: one after another in each of them.
        lines: each calculation stands on a line of its own.
        kinds: keys of `TEMPLATES`, None for all.
        taken: questions that must not be among them; in one language, they are not in the other one either.

    Raises:
        UserError: an option out of range, or fewer than `n` distinct problems to be found.
    """
    chosen = _check(language, steps, style, difficulty, kinds)
    styles: tuple[Style, ...] = get_args(Style) if style == "mixed" else (style,)
    rng = random.Random(seed)
    seen = set(taken)
    problems: list[Problem] = []
    misses = 0
    while len(problems) < n:
        n_steps = rng.randint(*steps)
        kind = rng.choice([name for name, (_, low, high) in chosen.items() if low <= n_steps <= high])
        story = tell(kind, n_steps, rng, SCALES[difficulty])
        chinese = rng.random() < 0.5  # drawn in every language, so that the numbers do not depend on it
        texts = story.question("en"), story.question("zh")
        if not seen.isdisjoint(texts):
            misses += 1
            if misses == _PATIENCE:
                raise UserError(f"n={n}: only {len(problems)} distinct problems found; ask for fewer or widen `steps`")
            continue
        misses = 0
        seen.update(texts)
        lang = ("zh" if chinese else "en") if language == "mixed" else language
        told = styles[len(problems) % len(styles)]
        problems.append(
            Problem(
                question=story.question(lang),
                solution=story.solution(lang, told, lines=lines),
                answer=str(story.value),
                program=story.program(),
                kind=kind,
                steps=n_steps,
                language=lang,
                style=told,
            )
        )
    return problems


def split_problems(
    n_train: int,
    n_test: int,
    seed: int,
    *,
    language: Language = "en",
    steps: tuple[int, int] = (1, 3),
    style: Style | Literal["mixed"] = "cot",
    difficulty: Difficulty = "easy",
    lines: bool = False,
    kinds: Sequence[str] | None = None,
    taken: Iterable[str] = (),
) -> tuple[list[Problem], list[Problem]]:
    """(train, test) without a question in common. The test problems do not depend on `n_train`.

    The texts differ, the calculations need not: easy one-step problems have few number pairs, so a test problem may
    repeat the numbers of a training problem with other names and things.
    """
    problems = generate_problems(
        n_train + n_test,
        seed,
        language=language,
        steps=steps,
        style=style,
        difficulty=difficulty,
        lines=lines,
        kinds=kinds,
        taken=taken,
    )
    return problems[n_test:], problems[:n_test]


def write_jsonl(problems: Iterable[Problem], path: str | Path) -> None:
    """One row a problem: `question`, `answer` (the worked solution, as GSM8K names it), `gold`, `kind`, `language`, and
    `prompt`, the question as a tuned model is asked for this style of solution.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for problem in problems:
            row = {
                "question": problem.question,
                "answer": problem.solution,
                "gold": problem.answer,
                "kind": problem.kind,
                "language": problem.language,
                "prompt": f"{problem.question}\n{question_suffix(problem.question, problem.style)}",
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _check(
    language: str, steps: tuple[int, int], style: str, difficulty: str, kinds: Sequence[str] | None
) -> dict[str, tuple[Template, int, int]]:
    """The templates of these kinds."""
    for name, value, allowed in (
        ("language", language, get_args(Language)),
        ("style", style, (*get_args(Style), "mixed")),
        ("difficulty", difficulty, get_args(Difficulty)),
        *(("kinds", kind, tuple(TEMPLATES)) for kind in kinds or ()),
    ):
        if value not in allowed:
            raise UserError(f"{name}={value}: unknown; one of {', '.join(allowed)}")
    if not 1 <= steps[0] <= steps[1] <= MAX_STEPS:
        raise UserError(f"steps={list(steps)}: not a range; two numbers low <= high from 1 to {MAX_STEPS}")
    chosen = {name: template for name, template in TEMPLATES.items() if kinds is None or name in kinds}
    for n_steps in range(steps[0], steps[1] + 1):
        if not any(low <= n_steps <= high for _, low, high in chosen.values()):
            raise UserError(f"kinds={list(chosen)}: none of them has a problem of {n_steps} steps; allowed: another")
    return chosen
