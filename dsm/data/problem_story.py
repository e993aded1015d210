"""How a word problem is told: numbers, names and sentences, with the arithmetic done on the way.

A `Story` collects the sentences of the question and the steps of the solution, each in English and Chinese at once. It
does the arithmetic of every step itself, so the solution, the program and the answer cannot disagree.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from typing import Literal, NamedTuple

Style = Literal["cot", "pot", "tir"]
Difficulty = Literal["first", "basic", "easy", "hard"]


class Text(NamedTuple):
    """The same words in both languages."""

    en: str
    zh: str


class Scale(NamedTuple):
    """The numbers of a difficulty: inclusive ranges, and the largest value a step may have."""

    small: tuple[int, int]
    large: tuple[int, int]
    term: tuple[int, int]
    limit: int


SCALES = {
    "first": Scale(small=(2, 5), large=(6, 9), term=(2, 9), limit=20),
    "basic": Scale(small=(2, 5), large=(6, 10), term=(2, 12), limit=50),
    "easy": Scale(small=(2, 9), large=(10, 20), term=(5, 49), limit=199),
    "hard": Scale(small=(3, 12), large=(13, 80), term=(50, 400), limit=999),
}
_OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,  # only drawn where it is exact
    "//": operator.floordiv,
    "%": operator.mod,
}
_NAMES = [
    Text(*pair.split("/"))
    for pair in (
        *("Tom/小明", "Anna/小红", "Ben/小华", "Mia/小丽", "Leo/小刚", "Lily/小芳"),
        *("Sam/小强", "Emma/小美", "Jack/小军", "Nina/小兰", "Max/小东", "Rosa/小雪"),
    )
]
_THINGS = [
    Text(*pair.split("/"))
    for pair in (
        *("apples/苹果", "pears/梨", "peaches/桃子", "eggs/鸡蛋", "cups/杯子"),
        *("balls/球", "toys/玩具", "shells/贝壳", "masks/面具", "bells/铃铛"),
    )
]


class Redraw(Exception):
    """The numbers drawn do not make a proper problem."""


class Var(int):
    """The value of an earlier step, which a program calls by its name."""

    name: str


class Story:
    """A problem being told: draws names and numbers, collects sentences, and does the arithmetic of each step."""

    def __init__(self, rng: random.Random, scale: Scale) -> None:
        self.rng = rng
        self.scale = scale
        self.value = Var(0)
        self._question: list[Text] = []
        self._steps: list[Text] = []  # "@" stands for the calculation
        self._equations: list[Text] = []
        self._expressions: list[str] = []  # with the names of earlier results: what the program computes
        self._code: list[str] = []

    def names(self, k: int) -> list[Text]:
        """`k` different people."""
        return self.rng.sample(_NAMES, k)

    def thing(self) -> Text:
        """Something one can count (in Chinese: by 个)."""
        return self.rng.choice(_THINGS)

    def small(self) -> int:
        """A multiplier; one digit where easy."""
        return self.rng.randint(*self.scale.small)

    def factor(self) -> int:
        """What is multiplied: mostly small, every fourth time two digits."""
        return self.rng.randint(*(self.scale.large if self.rng.random() < 0.25 else self.scale.small))

    def large(self) -> int:
        """A two-digit number that is to be multiplied."""
        return self.rng.randint(*self.scale.large)

    def term(self) -> int:
        """Something to add or take away."""
        return self.rng.randint(*self.scale.term)

    def flip(self) -> bool:
        """True half of the time."""
        return self.rng.random() < 0.5

    def bill(self, total: int) -> int:
        """The smallest of a few round sums that pays for `total`."""
        return next((bill for bill in (20, 50, 100, 200, 500, 1000) if bill > total + 1), 0)

    def say(self, en: str, zh: str) -> None:
        """Add a sentence to the question."""
        self._question.append(Text(en, zh))

    def step(self, name: str, left: int, op: str, right: int, en: str, zh: str) -> Var:
        """Calculate `left op right`, a line of the program and a sentence of the solution with "@" for the equation.

        Operations are + - * / (exact), // (quotient) and % (rest).
        """
        inexact = op == "/" and left % right != 0
        result = Var(_OPERATIONS[op](left, right))
        if inexact or not 1 <= result <= self.scale.limit:
            raise Redraw
        result.name = name
        if op in ("//", "%"):
            quotient, rest = divmod(left, right)
            if rest == 0 or quotient == 0:
                raise Redraw
            head = f"{left} / {right} = {quotient}"
            equation = Text(f"{head} remainder {rest}", f"{head} 余 {rest}")
        else:
            equation = Text(*[f"{left} {op} {right} = {result}"] * 2)
        operands = [value.name if isinstance(value, Var) else str(value) for value in (left, right)]
        expression = f" {'//' if op == '/' else op} ".join(operands)
        self._steps.append(Text(en, zh))
        self._equations.append(equation)
        self._expressions.append(expression)
        self._code.append(f"    {name} = {expression}")
        self.value = result
        return result

    def question(self, language: str) -> str:
        """The sentences of the question as one text."""
        return _join(self._question, language)

    def program(self) -> str:
        """Python source that defines `solution()`."""
        return "\n".join(["def solution():", *self._code, f"    return {self.value.name}"])

    def solution(self, language: str, style: Style, *, lines: bool = False) -> str:
        """The worked solution: steps in words (cot), a program alone (pot), or words, program and output (tir).

        With `lines` every step, and the answer, has a line of its own: the steps of process supervision.
        """
        index = Text._fields.index(language)
        if style == "pot":
            return f"```python\n{self.program()}\n```"
        final = (rf"The answer is \boxed{{{self.value}}}.", rf"答案是 \boxed{{{self.value}}}。")[index]
        calculations = self._expressions if style == "tir" else [equation[index] for equation in self._equations]
        pairs = zip(self._steps, calculations, strict=True)
        steps = [Text(*(text.replace("@", calc) for text in step)) for step, calc in pairs]
        reasoning = "\n".join(step[index] for step in steps) if lines else _join(steps, language)
        if style == "cot":
            separator = "\n" if lines else "" if language == "zh" else " "
            return f"{reasoning}{separator}{final}"
        code = f"```python\n{self.program()}\n\nprint(solution())\n```\n```output\n{self.value}\n```"
        return f"{reasoning}\n{code}\n{final}"


def _join(sentences: list[Text], language: str) -> str:
    return "".join(text.zh for text in sentences) if language == "zh" else " ".join(text.en for text in sentences)
