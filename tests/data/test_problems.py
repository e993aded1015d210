"""The word problems: every calculation true, every program right, the same problems everywhere and always."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import product
from pathlib import Path

import pytest

from dsm.data.formats import SUFFIXES, split_outputs
from dsm.data.problem_templates import TEMPLATES
from dsm.data.problems import MAX_STEPS, Problem, generate_problems, split_problems, write_jsonl
from dsm.errors import UserError

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)(?: (?:remainder|余) (\d+))?")
BOXED = re.compile(r"\\boxed\{(\d+)\}")
LANGUAGES, DIFFICULTIES = ("en", "zh"), ("first", "basic", "easy", "hard")


def is_true(left: str, op: str, right: str, result: str, rest: str) -> bool:
    a, b, c = int(left), int(right), int(result)
    if op == "/":
        return b * c + int(rest or 0) == a and int(rest or 0) < b
    return {"+": a + b, "-": a - b, "*": a * b}[op] == c


def run(program: str) -> int:
    namespace: dict[str, object] = {}
    exec(program, namespace)  # our own text, not a model's
    return namespace["solution"]()  # type: ignore[operator]


@pytest.mark.parametrize(("language", "difficulty"), product(LANGUAGES, DIFFICULTIES))
def test_solutions_and_programs_are_right(language: str, difficulty: str) -> None:
    problems = generate_problems(1500, seed=5, language=language, difficulty=difficulty)  # type: ignore[arg-type]
    limit = {"first": 21, "basic": 51, "easy": 200, "hard": 1000}[difficulty]
    for problem in problems:
        equations = EQUATION.findall(problem.solution)
        assert len(equations) == problem.steps == problem.solution.count("="), problem
        assert all(is_true(*equation) for equation in equations), problem
        assert all(0 < int(equation[3]) < limit for equation in equations), problem
        # The answer is the last result, or the rest of the last division; the boxed one and the program's agree.
        assert problem.answer in equations[-1][3:], problem
        assert BOXED.findall(problem.solution) == [problem.answer], problem
        assert run(problem.program) == int(problem.answer), problem
        assert "@" not in problem.question + problem.solution
    kinds = {(problem.kind, problem.steps) for problem in problems}
    assert kinds == {(kind, n) for kind, (_, low, high) in TEMPLATES.items() for n in range(low, high + 1)}


def test_every_number_of_a_solution_is_given_or_computed() -> None:
    """Nothing falls from the sky: an operand is in the question or an earlier result, but for known constants."""
    constants = {"2", "3", "4", "5", "10"}  # half a perimeter, the days of an average, 1 / percentage
    for problem in generate_problems(1000, seed=6):
        known = set(re.findall(r"\d+", problem.question)) | constants
        for left, _, right, result, rest in EQUATION.findall(problem.solution):
            assert {left, right} <= known, problem
            known |= {result, rest}


def test_easy_stays_easy() -> None:
    for problem in generate_problems(1500, seed=7, difficulty="easy"):
        for left, op, right, _, _ in EQUATION.findall(problem.solution):
            if op == "*":
                assert min(int(left), int(right)) <= 9, problem
            if op == "/":
                assert int(right) <= 10, problem


def test_language_and_style_change_words_only() -> None:
    plain = generate_problems(200, seed=3)
    for language, style in product(("en", "zh", "mixed"), ("cot", "pot", "tir")):
        others = generate_problems(200, seed=3, language=language, style=style)  # type: ignore[arg-type]
        facts = [(p.kind, p.steps, p.answer, p.program) for p in others]
        assert facts == [(p.kind, p.steps, p.answer, p.program) for p in plain]


def test_languages() -> None:
    cjk = re.compile(r"[\u4e00-\u9fff]")
    latin = re.compile(r"[A-Za-z]")
    for problem in generate_problems(300, seed=2, language="zh"):
        assert problem.language == "zh"
        assert not latin.search(problem.question), problem
        assert not latin.search(problem.solution.replace("\\boxed", "")), problem
    assert not any(cjk.search(p.question + p.solution) for p in generate_problems(300, seed=2))
    mixed = generate_problems(300, seed=2, language="mixed")
    assert 100 < sum(p.language == "zh" for p in mixed) < 200
    assert all(bool(cjk.search(p.question)) == (p.language == "zh") for p in mixed)


def test_styles() -> None:
    for pot in generate_problems(50, seed=4, style="pot"):
        assert pot.solution == f"```python\n{pot.program}\n```"
    for tir in generate_problems(50, seed=4, language="mixed", style="tir"):
        before, output, after = split_outputs(tir.solution)  # the cut that SFT makes, so that it masks the output
        assert output.role == "tool"
        assert output.content == f"```output\n{tir.answer}\n```\n"
        assert tir.program in before.content
        assert BOXED.findall(after.content) == [tir.answer]
        assert "=" not in before.content.split("```python")[0]  # the program computes, not the words


def test_the_same_seed_gives_the_same_problems_everywhere() -> None:
    problems = generate_problems(100, seed=0, language="mixed")
    digest = hashlib.sha256(repr([(p.question, p.solution, p.answer) for p in problems]).encode()).hexdigest()
    # If this must change, the quickstart's data changes: say so in the commit.
    assert digest == "a38cb8a8f9a2233668d368c859ef7d49a6ff25b6fed65b0c2baf30063a493ef5"
    assert generate_problems(100, seed=0, language="mixed") == problems
    assert generate_problems(40, seed=0, language="mixed") == problems[:40]
    assert generate_problems(100, seed=1, language="mixed") != problems


def test_splits_share_no_question() -> None:
    train, test = split_problems(3000, 300, seed=0, steps=(1, 2))
    assert (len(train), len(test)) == (3000, 300)
    questions = [problem.question for problem in train + test]
    assert len(set(questions)) == len(questions)
    assert split_problems(10, 300, seed=0, steps=(1, 2))[1] == test
    assert {problem.steps for problem in train} == {1, 2}


def test_styles_can_take_turns() -> None:
    """A third of the problems in each; nothing else changes."""
    mixed = generate_problems(90, seed=4, style="mixed")
    assert [problem.style for problem in mixed[:4]] == ["cot", "pot", "tir", "cot"]
    for style in ("cot", "pot", "tir"):
        alone = generate_problems(90, seed=4, style=style)  # type: ignore[arg-type]
        assert [one.solution for one in mixed if one.style == style] == [
            one.solution for one, other in zip(alone, mixed, strict=True) if other.style == style
        ]


def test_kinds_and_what_is_taken() -> None:
    """Only these kinds, and no question that is known, in whichever language it was."""
    others = generate_problems(300, seed="others", kinds=["sharing", "before"], language="zh", steps=(1, 2))
    assert {problem.kind for problem in others} == {"sharing", "before"}
    taken = {problem.question for problem in others}
    anew = generate_problems(300, seed="others", kinds=["sharing", "before"], language="en", steps=(1, 2), taken=taken)
    in_english = generate_problems(300, seed="others", kinds=["sharing", "before"], language="en", steps=(1, 2))
    assert {problem.question for problem in anew}.isdisjoint(problem.question for problem in in_english)


def test_rows(tmp_path: Path) -> None:
    problems = generate_problems(20, seed=0, language="mixed")
    write_jsonl(problems, tmp_path / "new" / "train.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "new" / "train.jsonl").read_text(encoding="utf-8").splitlines()]

    def expected(problem: Problem) -> dict[str, str]:
        return {
            "question": problem.question,
            "answer": problem.solution,
            "gold": problem.answer,
            "kind": problem.kind,
            "language": problem.language,
            "prompt": f"{problem.question}\n{SUFFIXES['cot', problem.language]}",
        }

    assert rows == [expected(problem) for problem in problems]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "fr"}, "language=fr: unknown; one of en, zh, mixed"),
        ({"style": "prose"}, "style=prose: unknown; one of cot, pot, tir, mixed"),
        ({"kinds": ["cooking"]}, "kinds=cooking: unknown; one of inventory, shopping"),
        ({"kinds": ["average"]}, r"kinds=\['average'\]: none of them has a problem of 1 steps"),
        ({"difficulty": "no"}, "difficulty=no: unknown; one of first, basic, easy, hard"),
        ({"steps": (0, 2)}, rf"steps=\[0, 2\]: .* from 1 to {MAX_STEPS}"),
        ({"steps": (2, 1)}, r"steps=\[2, 1\]"),
    ],
)
def test_wrong_options_are_the_users_error(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        generate_problems(1, seed=0, **options)  # type: ignore[arg-type]
