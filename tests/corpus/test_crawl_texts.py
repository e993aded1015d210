"""The texts that are no web pages: right in their results, true to their names, free of what is held out."""

from __future__ import annotations

import ast
import doctest
import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import sympy

from dsm.corpus.crawl.benchmark import benchmarks
from dsm.corpus.crawl.texts import recipes
from dsm.corpus.crawl.texts.code import Reserved, code
from dsm.corpus.crawl.texts.running import printed
from dsm.corpus.crawl.texts.write import SOURCES, write_texts

NUMBER, SEED, HELD_OUT = 300, 3, 60
Row = dict[str, str]
SUM = re.compile(r"(?<![\w^}])\d+ ?(?:\+|-|\*|/|//|×|÷|\\cdot|\\times) ?\d+ ?= ?\d+")


def write(folder: Path, number: int = NUMBER, seed: int = SEED) -> Path:
    for source in SOURCES:
        write_texts(folder, source, number, seed, benchmarks(seed, 20, HELD_OUT), recipes.held_out(seed, HELD_OUT))
    return folder


def read(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    folder = write(tmp_path_factory.mktemp("texts"))
    return {source: read(folder / f"{source}.jsonl.gz") for source in SOURCES}


def of(rows: list[Row], *kinds: str) -> Iterator[str]:
    found = [row["text"] for row in rows if row["kind"] in kinds]
    assert found
    return iter(found)


def test_the_same_seed_writes_the_same_bytes_and_a_longer_file_begins_with_the_shorter(tmp_path: Path) -> None:
    names = ("one", "two", "more", "other")
    for name in names:
        (tmp_path / name).mkdir()
    one, two = write(tmp_path / "one", 20), write(tmp_path / "two", 20)
    more, other = write(tmp_path / "more", 40), write(tmp_path / "other", 20, SEED + 1)
    for file in sorted(path.name for path in one.iterdir()):
        assert (one / file).read_bytes() == (two / file).read_bytes()
        assert read(more / file)[:20] == read(one / file)
        assert not {row["text"] for row in read(other / file)} & {row["text"] for row in read(one / file)}


def test_documents_differ(texts: dict[str, list[Row]]) -> None:
    """A model cannot learn them by heart: hardly any two are the same, whole lines are rarely met again."""
    for source, rows in texts.items():
        assert len({row["text"] for row in rows}) >= 0.98 * NUMBER, source
    lines = [line for row in texts["code"] for line in row["text"].splitlines() if len(line) > 30]
    assert len(set(lines)) > 0.85 * len(lines)


def test_examples_of_code_show_what_running_them_gives(texts: dict[str, list[Row]]) -> None:
    """Every `>>>`, in a docstring or a session of its own, by Python's own doctest; assertions hold."""
    checked = 0
    for row in texts["code"]:
        names: dict[str, Any] = {}
        if row["kind"] != "session":
            exec(row["text"], names)
        test = doctest.DocTestParser().get_doctest(_shown(row["text"]), names, row["kind"], None, 0)
        result = doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None)
        assert result.failed == 0, row["text"]
        checked += result.attempted
    assert checked > NUMBER


def _shown(text: str) -> str:
    """A docstring's closing quotes are no part of what its last example shows."""
    return text.replace('"""', "\n")


def test_comments_of_code_say_what_comes_out(texts: dict[str, list[Row]]) -> None:
    for text in of(texts["code"], "script", "task"):
        out = printed(text).splitlines()
        assert text.splitlines()[-len(out) :] == [f"# {line}" for line in out], text
    for text in of(texts["code"], "ledger"):
        steps = re.findall(r"# (.+) = (\d+)", text)
        assert steps
        assert all(eval(step) == int(result) for step, result in steps), text
    for text in of(texts["code"], "class"):
        tree, names = ast.parse(text), dict[str, Any]()
        for node in tree.body:
            source = ast.unparse(node)
            if isinstance(node, ast.Expr):
                assert f"{source}  # {eval(source, names)}" in text
            else:
                exec(source, names)


def test_replies_of_computer_algebra_are_right(texts: dict[str, list[Row]]) -> None:
    """SymPy says the same; so does it, spoken to in GAP's words."""
    for text in of(texts["algebra"], "sympy"):
        parsed = doctest.DocTestParser().get_examples(text)
        names: dict[str, Any] = {}
        for example in parsed:
            if example.want:
                assert str(eval(example.source, names)) == example.want.strip(), example.source
            else:
                exec(example.source, names)
    calls = {"Gcd": sympy.gcd, "Lcm": sympy.lcm, "RemInt": lambda a, b: a % b, "Derivative": sympy.diff}
    calls |= {"Value": lambda p, value: sympy.sympify(p).subs("x", value)}
    calls |= {"Factors": lambda n: [p for p, e in sympy.factorint(n).items() for _ in range(e)]}
    calls |= {"RootsOfPolynomial": lambda p: sympy.solve(p)}
    for text in of(texts["algebra"], "gap"):
        for question, reply in re.findall(r"gap> ([^:\n]+);\n(.+)", text):
            found = eval(question.replace("^", "**"), {"x": sympy.Symbol("x"), **calls})
            wanted = eval(reply.replace("^", "**"), {"x": sympy.Symbol("x")})
            assert sympy.sympify(found) == wanted or sympy.expand(found - wanted) == 0, (question, reply)


def test_theorems_hold(texts: dict[str, list[Row]]) -> None:
    """By trying numbers: what follows from the hypotheses is true, and there is a case to which it applies."""
    for text in of(texts["algebra"], "lean"):
        for theorem in text.split("\n\n"):
            head = theorem.partition(":= by")[0].replace(": ℤ", "").replace(": ℕ", "").replace(": ℝ", "")
            statement = re.split(r"\) :|^example :|^theorem \w+ :", head, maxsplit=1)[-1].partition(" : ")
            claim = _predicate((statement[2] or statement[0]).strip())
            found = re.findall(r"\([hk] : ([^()]+)\)", head)
            hypotheses = [_predicate(each) for each in found]
            met = 0
            for n in range(190 if re.search(r"\b[nx]\b", theorem) else 1):
                for m in range(21 if re.search(r"\b[my]\b", theorem) else 1):
                    if all(holds(n, m, n, m) for holds in hypotheses):
                        met += 1
                        assert claim(n, m, n, m), theorem
            assert met, theorem


def _predicate(claim: str) -> Callable[..., bool]:
    holds: Callable[..., bool] = eval(f"lambda n, m, x, y: {re.sub('=', '==', claim)}")
    return holds


def test_web_mathematics_is_right_and_sometimes_solved_by_programs(texts: dict[str, list[Row]]) -> None:
    sums = 0
    for text in of(texts["maths"], "stories", "zh_stories"):
        for step, result in re.findall(r"(\d+ [-+*/] \d+) = (\d+)", text):
            assert eval(step.replace("/", "//")) == int(result), text
            sums += 1
    for text in of(texts["maths"], "programs"):
        assert printed(text.partition("\n")[2]).split() == re.findall(r"^# (\d+)$", text, re.MULTILINE)
    assert sums > NUMBER


def test_papers_calculate_nothing_and_general_texts_have_no_mathematics(texts: dict[str, list[Row]]) -> None:
    for row in texts["academic"]:
        assert not SUM.search(row["text"])
        assert re.search(r"\\(section|begin)\{", row["text"])
        assert row["text"].count("\\begin") == row["text"].count("\\end")
    for row in texts["general"]:
        assert not re.search(r"[=\\$^*]|\d ?\+ ?\d", row["text"])
    languages = [row["language"] for row in texts["general"]]
    assert 0.3 < languages.count("zh") / NUMBER < 0.5
    chinese = [row for row in texts["general"] if re.search(r"[\u4e00-\u9fff]", row["text"])]
    assert all(row["language"] == "zh" for row in chinese)
    assert len(chinese) == languages.count("zh")


def test_nothing_held_out_is_in_a_text(texts: dict[str, list[Row]]) -> None:
    """No question of a benchmark, no text of a planted one, no function of a held-out description."""
    known = benchmarks(SEED, 20, HELD_OUT)
    functions = {recipe.does for recipe in recipes.held_out(SEED, HELD_OUT)}
    for rows in texts.values():
        for row in rows:
            assert known.is_clean(row["text"])
            assert not any(question in row["text"] for question in known.taken)
            assert not any(does in row["text"] for does in functions)


def test_what_is_reserved_is_never_drawn() -> None:
    """Where nearly everything is reserved, what is written is the rest."""
    plain = Reserved(set(), set())
    drawn = [code(random.Random(number), plain) for number in range(200)]
    asked = {text.splitlines()[0][2:] for text, _, kind in drawn if kind == "task"}
    does = {found for text, _, kind in drawn if kind == "module" for found in re.findall(r'"""(.+?\.)', text)}
    again = [code(random.Random(number), Reserved(asked, does)) for number in range(200)]
    for text, _, _ in again:
        assert not any(question in text for question in asked)
        assert not any(f'"""{one}' in text for one in does)


def test_held_out_functions_can_be_told_right_from_wrong() -> None:
    """The solution passes its tests, a constant or another choice does not; the prompt shows other calls than these."""
    for recipe in recipes.held_out(SEED, HELD_OUT):
        row = recipes.examination(recipe)
        assert row["choices"][row["right"]] == row["canonical_solution"]
        for number, body in enumerate(row["choices"]):
            names: dict[str, Any] = {}
            exec(f"{row['prompt']}{body}\n{row['test']}", names)
            with nullcontext() if number == row["right"] else pytest.raises(AssertionError):
                names["check"](names[row["entry_point"]])
        constant = recipe.results[-1]
        with pytest.raises(AssertionError):
            names["check"](lambda *_, value=constant: value)
        assert row["prompt"].count(">>>") == 2
