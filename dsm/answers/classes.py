"""Which of several answers mean the same: what a majority vote counts."""

from __future__ import annotations

from collections.abc import Sequence

from dsm.answers.pool import GraderPool


def equivalence_classes(answers: Sequence[str | None], pool: GraderPool) -> list[int | None]:
    """The class of each answer, numbered from 0 by first appearance; None for no answer and for what cannot be read.

    An answer belongs to the first class whose first member it equals, so the result depends on nothing but the answers
    and their order, even where a tolerance makes equality not transitive. Equal texts are compared once.
    """
    texts = list(dict.fromkeys(answer for answer in answers if answer is not None))
    itself = pool.grade([(text, text) for text in texts])
    left = [text for text, verdict in zip(texts, itself, strict=True) if verdict.correct]
    classes: dict[str, int] = {}
    number = 0
    while left:
        first, rest = left[0], left[1:]
        classes[first] = number
        left = []
        for text, verdict in zip(rest, pool.grade([(first, text) for text in rest]), strict=True):
            if verdict.correct:
                classes[text] = number
            else:
                left.append(text)
        number += 1
    return [None if answer is None else classes.get(answer) for answer in answers]
