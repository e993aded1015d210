"""Word problems as pages: those of `dsm.data.problems`, in words only, so that a model can learn from what is mined.

The words of a page come from one stream of random numbers, its numbers from another: pages of one family have the same
words and other numbers. They are no copies of each other, and near-duplicate removal has to keep them all.
"""

from __future__ import annotations

import random
import re
from collections.abc import Set
from typing import Any

from dsm.corpus.crawl.pen import Block, Document, Pen
from dsm.data.problem_story import SCALES, Difficulty, Redraw, Story
from dsm.data.problem_templates import TEMPLATES

_PATIENCE = 200
_BOX = re.compile(r"\\boxed\{(.*?)\}")
_WORDS: dict[str, dict[str, list[str]]] = {
    "en": {
        "titles": [
            "Word problems {i}",
            "Math story problems, set {i}",
            "Problem of the week {i}",
            "Help with a problem",
        ],
        "question": ["Problem {n}. ", "Question {n}: ", "{n}) ", "Q: "],
        "solution": ["Solution. ", "Answer: ", "A: ", "Explanation: "],
        "intro": [
            "Read each problem carefully and write down what you know.",
            "My daughter brought this home from school and we are stuck.",
            "Here are some problems for the third grade.",
            "Try to solve these before you look at the answers.",
        ],
        "outro": ["Thank you, now I see it!", "Print this page for your class.", "Well done!", "See you next week."],
    },
    "zh": {
        "titles": ["应用题练习{i}", "小学数学应用题第{i}套", "每日一题{i}", "求助：一道应用题"],
        "question": ["第{n}题：", "题目：", "{n}、", "问题："],
        "solution": ["解：", "答案：", "解答：", "分析："],
        "intro": [
            "认真读题，写出已知条件。",
            "孩子的作业，请大家帮忙看看。",
            "三年级数学练习。",
            "先自己做，再看答案。",
        ],
        "outro": ["谢谢，明白了！", "可以打印给学生做。", "做得很好！", "明天继续。"],
    },
}


class _TwoStreams:
    """The random numbers of a story: its words and turns from one generator, its numbers from another."""

    def __init__(self, words: random.Random, numbers: random.Random) -> None:
        self.randint = numbers.randint
        self.choice, self.sample, self.random = words.choice, words.sample, words.random


def story(words: str, numbers: random.Random, *, difficulty: Difficulty = "basic") -> Story:
    """A problem whose words follow from `words`, as far as there are numbers that suit them."""
    first = random.Random(words)
    kind = first.choice(list(TEMPLATES))
    template, low, high = TEMPLATES[kind]
    steps = first.randint(low, high)
    for _ in range(_PATIENCE):
        streams: Any = _TwoStreams(random.Random(words), numbers)
        telling = Story(streams, SCALES[difficulty])
        try:
            template(telling, steps)
        except Redraw:
            continue
        return telling
    return story(f"{words}, in other words", numbers, difficulty=difficulty)


def texts(telling: Story, language: str) -> tuple[str, str]:
    """Question and worked solution in plain words."""
    return telling.question(language), _BOX.sub(r"\1", telling.solution(language, "cot"))


def problems_page(pen: Pen, language: str, words: str, taken: Set[str]) -> Document:
    """A page of one to five problems. All its words follow from `words`.

    Args:
        taken: questions that no page may hold.
    """
    rng = random.Random(words)
    say = _WORDS[language]
    blocks = [Block("p", rng.choice(say["intro"]))] if rng.random() < 0.7 else []
    question, solution = rng.choice(say["question"]), rng.choice(say["solution"])
    title = rng.choice(say["titles"]).replace("{i}", str(pen.rng.randint(2, 900)))
    for number in range(1, rng.choice([1, 1, 2, 3, 4, 5]) + 1):
        asked, solved = texts(story(f"{words} {number}", pen.rng), language)
        while asked in taken:
            asked, solved = texts(story(f"{words} {number} {asked}", pen.rng), language)
        blocks.append(Block("p", question.replace("{n}", str(number)) + asked))
        blocks.append(Block("p", solution + solved))
    if rng.random() < 0.5:
        blocks.append(Block("p", rng.choice(say["outro"])))
    return Document(title, blocks, language, "stories" if language == "en" else "zh_stories")
