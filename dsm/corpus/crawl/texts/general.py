"""Natural language about anything but mathematics, English and Chinese, from the words of the crawl's other sites."""

from __future__ import annotations

import random
from collections.abc import Callable

from dsm.corpus.crawl import vocabulary as english
from dsm.corpus.crawl import vocabulary_zh as chinese
from dsm.corpus.crawl.pen import Pen, Slots
from dsm.corpus.crawl.prose import paragraph, slots

_CHINESE = 0.4
"""The share of it that is Chinese; the paper says 'English and Chinese' only."""
_PHRASES = {
    "en": {
        "dear": ["Dear {P},", "Hello {P},", "Hi {P},"],
        "yours": ["Yours, {P}", "See you soon, {P}", "Best wishes, {P}"],
        "says": ["{P}: ", "{P} said: ", "{P} asked: "],
        "born": ["{P} was born in {P} in {y}.", "{P} grew up near {P}.", "In {y} {P} moved to {P}."],
        "weather": ["It was a {a} day in {P}.", "The {n} stood empty {w}.", "Nobody in {P} had seen such a {a} {n}."],
    },
    "zh": {
        "dear": ["亲爱的{P}：", "{P}，你好！"],
        "yours": ["祝好，{P}", "此致敬礼，{P}"],
        "says": ["{P}说：", "{P}问：", "{P}："],
        "born": ["{P}{y}年出生。", "{P}在乡下长大。", "{y}年{P}搬到城里。"],
        "weather": ["{w}天气很好。", "{n}里一个人也没有。", "谁也没见过这么{a}的{n}。"],
    },
}


def general(rng: random.Random, seed: int) -> tuple[str, str, str]:
    """A text, its language and its kind."""
    language = "zh" if rng.random() < _CHINESE else "en"
    kind = rng.choice(list(_KINDS))
    return _KINDS[kind](_Prose(rng, seed, language)), language, kind


class _Prose:
    """Writes about one topic."""

    def __init__(self, rng: random.Random, seed: int, language: str) -> None:
        self.rng, self.pen, self.language = rng, Pen(rng, seed), language
        self.fill: Slots = slots(self.pen, rng.choice((chinese if language == "zh" else english).TOPICS), language)

    def phrase(self, kind: str) -> str:
        """One of the phrases of the language."""
        return self.pen.fill(self.rng.choice(_PHRASES[self.language][kind]), self.fill)

    def say(self, low: int, high: int) -> str:
        """So many sentences of the topic."""
        return paragraph(self.pen, self.fill, self.language, self.rng.randint(low, high))

    def title(self) -> str:
        """A heading."""
        return self.pen.fill(self.rng.choice((chinese if self.language == "zh" else english).TITLES), self.fill)


def _article(p: _Prose) -> str:
    return "\n\n".join([p.title(), *(p.say(2, 6) for _ in range(p.rng.randint(2, 5)))])


def _letter(p: _Prose) -> str:
    return "\n\n".join([p.phrase("dear"), *(p.say(2, 5) for _ in range(p.rng.randint(1, 3))), p.phrase("yours")])


def _dialogue(p: _Prose) -> str:
    return "\n".join([p.phrase("weather"), *(p.phrase("says") + p.say(1, 2) for _ in range(p.rng.randint(4, 9)))])


def _life(p: _Prose) -> str:
    return "\n\n".join(f"{p.phrase('born')} {p.say(1, 4)}" for _ in range(p.rng.randint(2, 4)))


_KINDS: dict[str, Callable[[_Prose], str]] = {
    "article": _article,
    "letter": _letter,
    "dialogue": _dialogue,
    "life": _life,
}
