"""Benchmarks of the crawl: some that are planted in its pages, some whose problems no page holds.

The planted ones are worded like nothing else in the crawl, and between their numbers there is no room for ten words
(in Chinese: ten characters): a page that asks the same with other numbers is not contaminated, and must be left alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache

from dsm.corpus.crawl import stories
from dsm.errors import UserError

_GRAM = re.compile(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff_]+")
_N = 10

_Told = tuple[str, str, str]
_ENGLISH: list[Callable[[list[int]], _Told]] = [
    lambda n: (
        f"A lighthouse keeper climbs {n[0]} steps {n[1]} times, then {n[2]} rungs {n[3]} times. How many climbs?",
        f"First {n[0]} * {n[1]} = {n[0] * n[1]}, next {n[2]} * {n[3]} = {n[2] * n[3]}, jointly"
        f" {n[0] * n[1] + n[2] * n[3]}.",
        str(n[0] * n[1] + n[2] * n[3]),
    ),
    lambda n: (
        f"Beekeeper Ottoline fills {n[0]} jars per hive, owns {n[1]} hives and spills {n[2]} jars. What remains?",
        f"Hives give {n[0]} * {n[1]} = {n[0] * n[1]} jars; minus {n[2]} leaves {n[0] * n[1] - n[2]} jars.",
        str(n[0] * n[1] - n[2]),
    ),
    lambda n: (
        f"An archivist scans {n[0]} scrolls hourly for {n[1]} hours, with {n[2]} already scanned. Count the scrolls!",
        f"Scanning adds {n[0]} * {n[1]} = {n[0] * n[1]}; plus {n[2]} makes {n[0] * n[1] + n[2]} scrolls.",
        str(n[0] * n[1] + n[2]),
    ),
    lambda n: (
        f"Ferry {n[0]} carries {n[1]} lorries and {n[2]} bicycles, ferry {n[3]} twice that. How many vehicles?",
        f"One ferry holds {n[1]} + {n[2]} = {n[1] + n[2]}, both hold 3 * {n[1] + n[2]} = {3 * (n[1] + n[2])}.",
        str(3 * (n[1] + n[2])),
    ),
    lambda n: (
        f"Wanjiru knits {n[0]} rows daily over {n[1]} days, unravels {n[2]} rows, knits {n[3]} again. Rows at last?",
        f"Knitting {n[0]} * {n[1]} = {n[0] * n[1]}, minus {n[2]} plus {n[3]} gives {n[0] * n[1] - n[2] + n[3]}.",
        str(n[0] * n[1] - n[2] + n[3]),
    ),
]
_CHINESE: list[Callable[[list[int]], _Told]] = [
    lambda n: (
        f"灯塔看守爬{n[0]}级石阶{n[1]}趟，又爬{n[2]}级铁梯{n[3]}趟，共爬几级？",
        f"石阶{n[0]}×{n[1]}={n[0] * n[1]}级，铁梯{n[2]}×{n[3]}={n[2] * n[3]}级，合计{n[0] * n[1] + n[2] * n[3]}级。",
        str(n[0] * n[1] + n[2] * n[3]),
    ),
    lambda n: (
        f"养蜂人有{n[0]}箱蜂，每箱产{n[1]}罐蜜，打翻{n[2]}罐，剩几罐蜜？",
        f"共产{n[0]}×{n[1]}={n[0] * n[1]}罐，减去{n[2]}罐，剩蜜{n[0] * n[1] - n[2]}罐。",
        str(n[0] * n[1] - n[2]),
    ),
    lambda n: (
        f"档案员每时扫描{n[0]}卷，扫了{n[1]}时，原有{n[2]}卷，现有几卷？",
        f"新扫{n[0]}×{n[1]}={n[0] * n[1]}卷，加上{n[2]}卷，得{n[0] * n[1] + n[2]}卷。",
        str(n[0] * n[1] + n[2]),
    ),
    lambda n: (
        f"渡轮运卡车{n[0]}辆、单车{n[1]}辆，来回{n[2]}趟，运车几辆？",
        f"每趟{n[0]}+{n[1]}={n[0] + n[1]}辆，{n[2]}趟运{(n[0] + n[1]) * n[2]}辆车。",
        str((n[0] + n[1]) * n[2]),
    ),
]
_SHORT: list[Callable[[list[int]], _Told]] = [
    lambda n: (f"Compute {n[0]} times {n[1]} exactly", f"precisely {n[0] * n[1]} units", str(n[0] * n[1])),
    lambda n: (
        f"Cube {n[0]} minus square {n[1]}",
        f"{n[0] ** 3 - n[1] ** 2} by subtraction",
        str(n[0] ** 3 - n[1] ** 2),
    ),
    lambda n: (f"Halve {2 * n[0]} then triple it", f"exactly {3 * n[0]} afterwards", str(3 * n[0])),
    lambda n: (
        f"Ferry time for {n[0] * n[1]} knots?",
        f"{n[0]} hours and {n[1]} minutes",
        f"{n[0]} hours and {n[1]} minutes",
    ),
]
PLANTED: dict[str, list[Callable[[list[int]], _Told]]] = {
    "planted_en": _ENGLISH,
    "planted_zh": _CHINESE,
    "planted_short": _SHORT,
}
HELD_OUT = {"held_out_en": "en", "held_out_zh": "zh"}


@dataclass(frozen=True)
class Row:
    """A question, its worked solution (or an answer in words), and the answer alone.

    Attributes:
        choices: four ways for the solution to end, of which number `right` is the one; none where none are offered.
    """

    question: str
    answer: str
    gold: str
    choices: tuple[str, ...] = ()
    right: int | None = None

    def columns(self) -> dict[str, object]:
        """What the row of the file holds."""
        return {name: value for name, value in asdict(self).items() if value not in ((), None)}


@dataclass(frozen=True)
class Benchmarks:
    """All rows by benchmark, and what pages must not say by accident."""

    rows: dict[str, list[Row]]
    grams: frozenset[str]
    taken: frozenset[str]

    def is_clean(self, text: str) -> bool:
        """Does it share no ten words in a row (and no short text) with a planted benchmark?"""
        return self.grams.isdisjoint(_grams(text))


@lru_cache(2)
def benchmarks(seed: int, planted: int, held_out: int) -> Benchmarks:
    """The benchmarks of a crawl, with so many rows each.

    Raises:
        UserError: there are not so many.
    """
    rows: dict[str, list[Row]] = {}
    grams: set[str] = set()
    for name, templates in PLANTED.items():
        rng = random.Random(f"{name} {seed}")
        seen: dict[str, Row] = {}
        for number in range(planted):
            row = _row(rng, templates[number % len(templates)])
            while row.question in seen:
                row = _row(rng, templates[number % len(templates)])
            seen[row.question] = row
        rows[name] = list(seen.values())
        for row in rows[name]:
            grams |= _grams(row.question) | _grams(row.answer)
    taken: set[str] = set()
    for name, language in HELD_OUT.items():
        rows[name] = []
        for number in range(40 * held_out):
            told = stories.story(f"held out {seed} {number}", random.Random(f"held out numbers {seed} {number}"))
            question, answer = stories.texts(told, language)
            if question not in taken:
                taken.add(question)
                rows[name].append(_with_choices(question, answer, int(told.value), random.Random(number)))
            if len(rows[name]) == held_out:
                break
        else:
            raise UserError(f"crawl.held_out_rows={held_out}: there are only {len(rows[name])} different problems")
    return Benchmarks(rows, frozenset(grams), frozenset(taken))


def _with_choices(question: str, answer: str, gold: int, rng: random.Random) -> Row:
    """A row whose solution may also be chosen among four, of which three have a wrong number at their end."""
    numbers = [gold, *rng.sample([gold + step for step in range(-9, 10) if step and gold + step > 0], 3)]
    rng.shuffle(numbers)
    start, _, end = answer.rpartition(str(gold))
    choices = tuple(f"{start}{number}{end}" for number in numbers)
    return Row(question, answer, str(gold), choices, numbers.index(gold))


def plant(rng: random.Random, of: Benchmarks, name: str) -> tuple[str, str]:
    """A text of a benchmark and what it is called: 'planted_en 17 question'."""
    number = rng.randrange(len(of.rows[name]))
    field = rng.choice(["question", "answer"])
    return getattr(of.rows[name][number], field), f"{name} {number} {field}"


def decoy(rng: random.Random, of: Benchmarks, name: str) -> str:
    """A text like a benchmark's, with other numbers: nothing that may be removed."""
    template = rng.choice(PLANTED[name])
    while True:
        row = _row(rng, template)
        if of.is_clean(row.question) and of.is_clean(row.answer):
            return f"{row.question} {row.answer}" if of.is_clean(f"{row.question} {row.answer}") else row.question


def _row(rng: random.Random, template: Callable[[list[int]], _Told]) -> Row:
    numbers = [rng.randint(20, 989) for _ in range(4)]
    numbers[2] = min(numbers[2], numbers[0] * numbers[1] - 1)
    return Row(*template(numbers))


def _grams(text: str) -> set[str]:
    tokens = _GRAM.findall(text.lower())
    if len(tokens) < _N:
        return {" ".join(tokens)} if len(tokens) >= 3 else set()
    return {" ".join(tokens[start : start + _N]) for start in range(len(tokens) - _N + 1)}
