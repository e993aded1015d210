"""Small functions from a description in words: what the code texts are full of, and what models are examined in.

A recipe says in its docstring what it does, in words from which the body follows; what its examples show comes from
running it. The vocabulary makes millions of them, so that a model has to read the docstring.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from dsm.corpus.crawl.pen import words
from dsm.corpus.crawl.texts.running import defined

NOUNS = words(
    "price|count|fee|width|height|rows|seats|boxes|weight|days|hours|rate|speed|pages|coins|apples|points|level|size",
    "depth|length|tickets|guests|tables|bottles|cups|stones|cards|lamps|birds|steps|bricks|cost|share|bags|eggs|toys",
    "balls|shells|pears|weeks|rooms|shelves|books|bonus|score|lanes|cars|trees|leaves|wheels|bells|masks|start|extra",
)
_NAMES = ["total_{n}", "{n}_left", "{n}_needed", "get_{n}", "compute_{n}", "{n}_after", "find_{n}", "new_{n}", "{n}_of"]
_LISTS = words("values|numbers|items|data|amounts|scores|sizes|prices|counts|entries")
_STRINGS = words("word|text|name|line|label|title")
WORDS = words("lamp|river|stone|garden|window|paper|bridge|candle|orange|silver|market|button|ladder|violin|harbour")
_FIRST = {
    "+": "Add {a} and {b}",
    "-": "Subtract {b} from {a}",
    "*": "Multiply {a} by {b}",
    "//": "Divide {a} by {b} without the rest",
    "%": "Take the rest of {a} divided by {b}",
}
_THEN = {"+": "add {b}", "-": "subtract {b}", "*": "multiply by {b}", "//": "divide by {b} without the rest"}
_SPAN = {"+": (2, 40), "-": (2, 12), "*": (2, 9), "//": (2, 6), "%": (3, 9)}
"""Numbers that stand to the right of an operation."""


@dataclass(frozen=True)
class Recipe:
    """A function.

    Attributes:
        does: the first sentence of its docstring, which decides what it computes.
        body: its lines, indented.
        calls: arguments to show it with.
    """

    name: str
    arguments: tuple[str, ...]
    does: str
    body: tuple[str, ...]
    calls: tuple[tuple[Any, ...], ...]

    def call(self, number: int) -> str:
        """`name(1, 2)`."""
        return f"{self.name}({', '.join(map(repr, self.calls[number]))})"

    @cached_property
    def results(self) -> tuple[Any, ...]:
        """What the calls return: they are made."""
        function = defined("\n".join([f"def {self.name}({', '.join(self.arguments)}):", *self.body]))[self.name]
        return tuple(function(*call) for call in self.calls)

    def head(self, examples: int) -> str:
        """Signature and docstring with the first so many calls: what HumanEval's prompts look like."""
        shown = [line for n in range(examples) for line in (f"    >>> {self.call(n)}", f"    {self.results[n]!r}")]
        doc = [f'    """{self.does}', "", *shown, '    """'] if shown else [f'    """{self.does}"""']
        return "\n".join([f"def {self.name}({', '.join(self.arguments)}):", *doc]) + "\n"

    def source(self, examples: int) -> str:
        """The whole function."""
        return self.head(examples) + "\n".join(self.body)


def draw(rng: random.Random) -> Recipe:
    """Any."""
    chance = rng.random()
    return _of_numbers(rng) if chance < 0.6 else _of_a_list(rng) if chance < 0.9 else _of_a_string(rng)


def _of_numbers(rng: random.Random) -> Recipe:
    """Two or three operations in a row, between arguments and constants."""
    arguments = rng.sample(NOUNS, rng.randint(2, 4))
    first = rng.choice(list(_FIRST))
    expression, does = f"{arguments[0]} {first} {arguments[1]}", _FIRST[first].format(a=arguments[0], b=arguments[1])
    result = rng.choice(["result", "total", "value", "answer"])
    lines, operations = [f"    {result} = {expression}"], [first]
    rights = arguments[2:] + [str(rng.randint(2, 9))] * rng.randint(0 if len(arguments) > 2 else 1, 1)
    for right in rights:
        operation = rng.choice(list(_THEN))
        does += f", then {_THEN[operation].format(b=right)}"
        expression = f"({expression}) {operation} {right}"
        lines.append(f"    {result} {operation}= {right}")
        operations.append(operation)
    body = [f"    return {expression}"] if rng.random() < 0.5 else [*lines, f"    return {result}"]
    spans = [_SPAN[operation] for operation in operations[: len(arguments) - 1]]
    calls = tuple((rng.randint(10, 60), *(rng.randint(*span) for span in spans)) for _ in range(5))
    name = rng.choice(_NAMES).replace("{n}", rng.choice(NOUNS))
    return Recipe(name, tuple(arguments), f"{does}.", tuple(body), calls)


def _of_a_list(rng: random.Random) -> Recipe:
    """Which elements, what of each, and what of all of them."""
    many, k, m = rng.choice(_LISTS), rng.randint(2, 9), rng.randint(2, 9)
    which, condition = rng.choice(
        [
            ("all {v}", ""),
            ("the even {v}", "x % 2 == 0"),
            ("the odd {v}", "x % 2 == 1"),
            (f"the {{v}} greater than {3 * k}", f"x > {3 * k}"),
            (f"the {{v}} less than {3 * k}", f"x < {3 * k}"),
            (f"the {{v}} divisible by {k}", f"x % {k} == 0"),
        ]
    )
    each, formula = rng.choice(
        [
            ("", "x"),
            (f", each multiplied by {m}", f"x * {m}"),
            (f", each increased by {m}", f"x + {m}"),
            (", each squared", "x * x"),
        ]
    )
    what, reduce, start, update = rng.choice(
        [
            ("the sum of", "sum({})", "0", "result += {}"),
            ("a list of", "[{}]", "[]", "result.append({})"),
            ("the largest of", "max(({}), default=0)", "0", "result = max(result, {})"),
            ("the number of", "len([{}])", "0", "result += 1"),
        ]
    )
    if what == "the number of":
        each, formula = "", "x"
    does = f"Return {what} {which.replace('{v}', many)}{each}."
    if rng.random() < 0.5:
        generator = f"{formula} for x in {many}" + (f" if {condition}" if condition else "")
        body = [f"    return {reduce.format(generator)}"]
    else:
        body = [f"    result = {start}", f"    for x in {many}:"]
        body += [f"        if {condition}:"] if condition else []
        body += [f"        {'    ' if condition else ''}{update.format(formula)}", "    return result"]
    calls = tuple(([rng.randint(1, 40) for _ in range(rng.randint(3, 6))],) for _ in range(5))
    name = rng.choice(["{v}_{n}", "{n}_{v}", "pick_{v}", "reduce_{v}", "collect_{v}", "process_{n}"])
    name = name.replace("{v}", many).replace("{n}", rng.choice(NOUNS))
    return Recipe(name, (many,), does, tuple(body), calls)


def _of_a_string(rng: random.Random) -> Recipe:
    text, k, letter = rng.choice(_STRINGS), rng.randint(2, 6), rng.choice("aeiorn")
    does, expression = rng.choice(
        [
            (f"Return {text} backwards", f"{text}[::-1]"),
            (f"Return the first {k} letters of {text}", f"{text}[:{k}]"),
            (f"Return {text} without its first {k} letters", f"{text}[{k}:]"),
            (f"Count the letter {letter} in {text}", f"{text}.count({letter!r})"),
            (f"Return {text} in capitals, {k} times", f"{text}.upper() * {k}"),
            (f"Return how many letters {text} has beyond {k}", f"len({text}) - {k}"),
        ]
    )
    calls = tuple((word,) for word in rng.sample(WORDS, 5))
    name = rng.choice(["change_{s}", "{s}_{n}", "use_{s}", "make_{s}"])
    name = name.replace("{s}", text).replace("{n}", rng.choice(NOUNS))
    return Recipe(name, (text,), f"{does}.", (f"    return {expression}",), calls)


def held_out(seed: int, number: int) -> list[Recipe]:
    """Functions to examine models in, with different descriptions; no code text describes one of them."""
    rng = random.Random(f"held out code {seed}")
    found: dict[str, Recipe] = {}
    while len(found) < number:
        recipe = draw(rng)
        if len(set(map(repr, recipe.results))) > 2:  # or a constant would pass
            found.setdefault(recipe.does, recipe)
    return list(found.values())


def examination(recipe: Recipe) -> dict[str, Any]:
    """A row as HumanEval has them: the prompt ends with the docstring, the tests are calls that it does not show.

    For models too small to write a function there are `choices`, four bodies of which `right` is the right one.
    """
    checks = [f"    assert candidate({', '.join(map(repr, call))}) == {result!r}" for call, result in _hidden(recipe)]
    solution = "\n".join(recipe.body)
    rng = random.Random(f"choices {recipe.does}")
    choices = [solution, *_wrong_bodies(recipe, rng)]
    rng.shuffle(choices)
    return {
        "prompt": recipe.head(2),
        "canonical_solution": solution,
        "test": "\n".join(["def check(candidate):", *checks]),
        "entry_point": recipe.name,
        "choices": choices,
        "right": choices.index(solution),
    }


def _hidden(recipe: Recipe) -> list[tuple[tuple[Any, ...], Any]]:
    return list(zip(recipe.calls, recipe.results, strict=True))[2:]


def _wrong_bodies(recipe: Recipe, rng: random.Random) -> list[str]:
    """Three bodies of other recipes, of as many lines and with the arguments of this one: the docstring decides."""
    found: dict[str, str] = {}
    while len(found) < 3:  # every shape has many recipes: some hundred draws at most
        other = draw(rng)
        if _shape(other) != _shape(recipe):
            continue
        names = dict(zip(other.arguments, recipe.arguments, strict=True))
        body = tuple("".join(names.get(word, word) for word in re.split(r"(\w+)", line)) for line in other.body)
        hidden = _hidden(replace(recipe, body=body))
        if hidden != _hidden(recipe):
            found.setdefault(repr(hidden), "\n".join(body))
    return list(found.values())


def _shape(recipe: Recipe) -> tuple[type, int, int]:
    return type(recipe.calls[0][0]), len(recipe.arguments), len(recipe.body)
