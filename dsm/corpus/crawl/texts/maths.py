"""Mathematics from the web without the web around it: what mining a crawl far larger than this one would leave.

The registers are those of the crawl's pages; besides there are pages that solve their problems with programs.
Experiments that are not about mining take this corpus: it has more problems than a crawl of some thousand pages.
"""

from __future__ import annotations

import random

from dsm.corpus.crawl import mathematics, mathematics_zh, stories
from dsm.corpus.crawl.pen import Pen
from dsm.corpus.crawl.texts.code import Reserved, task

_SHARES = {
    "stories": 0.45,
    "zh_stories": 0.2,
    "programs": 0.07,
    "worksheet": 0.07,
    "zh_worksheet": 0.04,
    "qa": 0.04,
    "forum": 0.04,
    "notes": 0.02,
    "encyclopaedia": 0.02,
    "blog": 0.02,
    "zh_notes": 0.02,
    "zh_forum": 0.01,
}


def maths(rng: random.Random, seed: int, reserved: Reserved) -> tuple[str, str, str]:
    """A text, its language and its kind."""
    (register,) = rng.choices(list(_SHARES), weights=list(_SHARES.values()))
    language = "zh" if register.startswith("zh_") else "en"
    if register == "programs":
        solved = [task(rng, reserved) for _ in range(rng.randint(1, 3))]
        title = rng.choice(["Word problems in Python", "Let the computer do the sums", "Python for the classroom"])
        return "\n\n\n".join([title, *(text for text, _ in solved)]), "en", register
    pen = Pen(rng, seed)
    if register.endswith("stories"):
        page = stories.problems_page(pen, language, f"text {rng.random()}", reserved.questions)
    else:
        page = {**mathematics.ENGLISH, **mathematics_zh.CHINESE}[register](pen)
    return page.plain(), language, register
