"""Code: Python functions, classes, scripts and interactive sessions, each with the results of running it."""

from __future__ import annotations

import random
from collections.abc import Callable, Set
from dataclasses import dataclass

from dsm.corpus.crawl import stories
from dsm.corpus.crawl.texts.recipes import NOUNS, WORDS, Recipe, draw
from dsm.corpus.crawl.texts.running import defined, printed, session

Written = tuple[str, str]
"""A text and its language."""


@dataclass(frozen=True)
class Reserved:
    """What no text may hold: questions of held-out word problems, descriptions of held-out functions."""

    questions: Set[str]
    functions: Set[str]


def code(rng: random.Random, reserved: Reserved) -> tuple[str, str, str]:
    """A text, its language and its kind."""
    (kind,) = rng.choices(list(_KINDS), weights=[weight for _, weight in _KINDS.values()])
    text, language = _KINDS[kind][0](rng, reserved)
    return text, language, kind


def _module(rng: random.Random, reserved: Reserved) -> Written:
    """One to three functions, and sometimes what they return for other arguments."""
    pieces = []
    for _ in range(rng.randint(1, 3)):
        recipe = _allowed(rng, reserved)
        pieces.append(recipe.source(rng.randint(0, 2)))
        if rng.random() < 0.4:
            pieces.append(f"assert {recipe.call(3)} == {recipe.results[3]!r}")
    return "\n\n\n".join(pieces), "en"


def _allowed(rng: random.Random, reserved: Reserved) -> Recipe:
    while (recipe := draw(rng)).does in reserved.functions:
        pass
    return recipe


def _ledger(rng: random.Random, reserved: Reserved) -> Written:
    """Step by step, with what each line leaves: arithmetic as programmers note it."""
    name = rng.choice(NOUNS)
    value = rng.randint(2, 40)
    lines = [f"{name} = {value}"]
    for _ in range(rng.randint(3, 8)):
        operation = rng.choice(["+", "-", "*"] if value < 12 else ["+", "-"] if value % 5 else ["+", "-", "//"])
        right = {"+": rng.randint(2, 40), "-": rng.randint(1, max(1, value - 1)), "*": rng.randint(2, 5), "//": 5}
        step = f"{value} {operation} {right[operation]}"
        result = defined(f"result = {step}")["result"]
        lines.append(f"{name} {operation}= {right[operation]}  # {step} = {result}")
        value = result
    return "\n".join([*lines, f"assert {name} == {value}"]), "en"


def _session(rng: random.Random, reserved: Reserved) -> Written:
    """What one tries at a prompt: numbers, lists, words and dictionaries."""
    a, b, values, word, stock = *rng.sample(NOUNS, 2), "values", "word", "stock"
    one, two = rng.sample(NOUNS, 2)
    topics = [
        [
            f"{a} = {rng.randint(5, 50)}",
            f"{b} = {rng.randint(2, 9)}",
            *(f"{x} {op} {y}" for x, op, y in _pairs(rng, [a, b])),
        ],
        [
            f"{values} = {[rng.randint(1, 30) for _ in range(rng.randint(3, 6))]}",
            *rng.sample(
                [
                    *(f"sum({values})", f"max({values})", f"sorted({values})", f"len({values})", f"{values}[1]"),
                    *(f"[x * {rng.randint(2, 9)} for x in {values}]", f"{values}[0] + {values}[-1]"),
                    f"[x for x in {values} if x > {rng.randint(5, 20)}]",
                    f"sum({values}) // len({values})",
                ],
                4,
            ),
        ],
        [
            f"{word} = {rng.choice(WORDS)!r}",
            *rng.sample([f"{word}.upper()", f"{word}[::-1]", f"len({word})", f"{word}.count('e')", f"{word}[1:4]"], 3),
        ],
        [
            f"{stock} = {{{one!r}: {rng.randint(2, 30)}, {two!r}: {rng.randint(2, 30)}}}",
            f"{stock}[{one!r}] += {rng.randint(2, 20)}",
            f"{stock}[{one!r}]",
            f"sum({stock}.values())",
            f"for name, many in {stock}.items():\n    assert many * 2 == many + many",
            f"{stock}[{one!r}] - {stock}[{two!r}]",
        ],
        [f"{rng.randint(2, 60)} {rng.choice('+-*')} {rng.randint(2, 12)}" for _ in range(rng.randint(3, 8))],
    ]
    chosen = rng.sample(topics, rng.randint(1, 3))
    return session(statement for topic in chosen for statement in topic), "en"


def _pairs(rng: random.Random, names: list[str]) -> list[tuple[str, str, str]]:
    return [
        (rng.choice(names), rng.choice(["+", "-", "*", "//", "%", ">"]), rng.choice([*names, str(rng.randint(2, 12))]))
        for _ in range(rng.randint(2, 5))
    ]


def _script(rng: random.Random, reserved: Reserved) -> Written:
    """A loop that prints, and what it printed."""
    total, step = rng.sample(NOUNS, 2)
    few = [rng.randint(2, 20) for _ in range(rng.randint(2, 5))]
    program = rng.choice(
        [
            f"{total} = 0\nfor {step} in {few}:\n    {total} += {step}\n    print({step}, {total})",
            f"{total} = {rng.randint(20, 60)}\nwhile {total} > {rng.randint(4, 12)}:\n    {total} -= "
            f"{rng.randint(3, 9)}\n    print({total})",
            f"for {step} in range(1, {rng.randint(4, 9)}):\n    print({step}, '*', {few[0]}, '=', {step} * {few[0]})",
            f"{total} = {dict(zip(rng.sample(NOUNS, len(few)), few, strict=True))}\n"
            f"for name, {step} in {total}.items():\n    print(name, {step} * {few[-1]})\nprint(sum({total}.values()))",
            f"{total}, {step} = {few[0]}, {few[1]}\nfor _ in range({rng.randint(3, 6)}):\n    print({total})\n"
            f"    {total}, {step} = {step}, {total} + {step}",
        ]
    )
    said = "\n".join(f"# {line}" for line in printed(program).splitlines())
    return f"{program}\n\n{rng.choice(['# Output:', '# prints'])}\n{said}", "en"


def _class(rng: random.Random, reserved: Reserved) -> Written:
    """Something that keeps a number, and what becomes of it."""
    what, more, less = rng.choice(NOUNS), *rng.sample(["add", "remove", "put", "take", "grow", "shrink"], 2)
    name = f"{rng.choice(['Shop', 'Store', 'Box', 'Account', 'Counter', 'Team'])}{rng.randint(1, 99)}"
    source = f"""class {name}:
    def __init__(self, {what}):
        self.{what} = {what}

    def {more}(self, many):
        self.{what} += many
        return self.{what}

    def {less}(self, many):
        self.{what} -= many
        return self.{what}"""
    one = defined(source)[name](start := rng.randint(30, 90))
    uses = [(rng.choice([more, less]), rng.randint(2, 30)) for _ in range(rng.randint(2, 5))]
    shown = [f"one.{use}({many})  # {getattr(one, use)(many)}" for use, many in uses]
    return "\n".join([source, "", "", f"one = {name}({start})", *shown]), "en"


def task(rng: random.Random, reserved: Reserved) -> Written:
    """A word problem in a comment, the program that solves it, and what that prints."""
    language = "zh" if rng.random() < 0.3 else "en"
    words = rng.random()
    telling = stories.story(f"task {words}", rng)
    while not reserved.questions.isdisjoint((telling.question("en"), telling.question("zh"))):
        telling = stories.story(f"task {rng.random()}", rng)
    program = f"# {telling.question(language)}\n{telling.program()}\n\n\nprint(solution())"
    return f"{program}\n# {printed(program).strip()}", language


_KINDS: dict[str, tuple[Callable[[random.Random, Reserved], Written], float]] = {
    "module": (_module, 0.35),
    "ledger": (_ledger, 0.15),
    "session": (_session, 0.15),
    "script": (_script, 0.1),
    "class": (_class, 0.05),
    "task": (task, 0.2),
}
