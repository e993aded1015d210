"""The strict grader: layers from cheap and certain to costly, each of which may decide.

    1. text       the normalised answer is the gold, letter for letter
    2. number     both are literals: exact fractions
    3. tree       both parse: the types decide what equality means (compare.py)
    4. words      neither is mathematics: the words are the same
    5. fallback   our parser cannot read the gold: Math-Verify may

It runs in the caller's process, evaluates no text, and does bounded work: every step has a limit of size.
"""

from __future__ import annotations

import re
from fractions import Fraction

from dsm.answers.compare import same
from dsm.answers.equality import Undecided
from dsm.answers.extract import extract
from dsm.answers.fallback import ask
from dsm.answers.nodes import MAX_CHARS, Node, ParseError, Quantity, TooLargeError, number, symbols
from dsm.answers.normalise import comparable, mend_escapes, normalise
from dsm.answers.parse import parse_normalised
from dsm.answers.quantities import with_letter_unit
from dsm.answers.units import parse_unit
from dsm.answers.unwrap import from_sentence, unwrap
from dsm.answers.verdict import Verdict, correct, ungradable, wrong
from dsm.answers.words import as_tree, is_words, same_choice, same_words
from dsm.config.answers import GraderConfig

_LITERAL = re.compile(r"\+?(-?)(?:(\d{1,40})(?:\.(\d{0,40}))?|\.(\d{1,40}))")
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}(?![A-Za-z(}])")
_LETTERS = re.compile(r"[A-Za-z\s]+")


def grade(gold: str, answer: str, rules: GraderConfig) -> Verdict:
    """Whether `answer` is `gold`, both bare answers; a box, dollar signs or a sentence around them do no harm.

    An answer that cannot be read is wrong; a gold that cannot be read leaves the pair ungradable, unless the texts are
    the same.
    """
    bare_gold, bare = unwrap(mend_escapes(gold)), unwrap(mend_escapes(answer))
    if _is_prose(bare) and not _is_prose(bare_gold) and (found := extract(bare, "final").answer):
        bare = unwrap(found)
    if not bare_gold:
        return ungradable("empty gold")
    if not bare:
        return ungradable("empty answer")
    if bare_gold == bare or gold == answer:
        return correct("text")
    if len(bare_gold) > MAX_CHARS or len(bare) > MAX_CHARS:
        return wrong("text") if len(bare_gold) <= MAX_CHARS else ungradable("gold too long")
    numbers = _literal(bare_gold), _literal(bare)
    if numbers[0] is not None and numbers[0] == numbers[1]:
        return correct("number")
    clean_gold, clean = normalise(bare_gold), normalise(bare)
    if comparable(clean_gold) == comparable(clean):
        return correct("text")
    return _grade_trees(clean_gold, clean, rules)


def _is_prose(text: str) -> bool:
    """More than a short sentence: an extractor has to look at it first."""
    return len(text) > 40 and len(_PROSE.findall(text)) > 7


def _literal(text: str) -> Fraction | None:
    found = _LITERAL.fullmatch(text)
    if found is None:
        return None
    sign, whole, places, only_places = found.groups()
    places = places or only_places or ""
    return Fraction(int(sign + (whole or "0") + places), 10 ** len(places))


def _grade_trees(gold: str, answer: str, rules: GraderConfig) -> Verdict:
    if rules.choice_text and same_choice(gold, answer):
        return correct("choice")
    gold_tree, gold_error = _read(gold)
    tree, error = _read(answer)
    doubt = ""
    if gold_tree is not None and tree is not None:
        try:
            if (layer := _same_in_any_reading(gold, answer, gold_tree, tree, rules)) is not None:
                return correct(layer)
        except (Undecided, TooLargeError, RecursionError) as undecided:
            doubt = f"undecided: {undecided}"
    unread = gold_tree is None or tree is None
    if (unread or (_LETTERS.fullmatch(gold) and _LETTERS.fullmatch(answer))) and same_words(gold, answer):
        return correct("words")
    if gold_tree is not None:
        if tree is None and (shorter := from_sentence(answer)) and shorter != answer:
            return _grade_trees(gold, normalise(unwrap(shorter)), rules)
        if doubt and not _is_computable(gold_tree, rules):
            return ungradable(f"gold: {doubt}")
        return wrong(doubt or (f"unread: {error}" if tree is None else "unlike"))
    if tree is not None and len(gold.split()) > 3 and (shorter := from_sentence(gold)) and shorter != gold:
        return _grade_trees(normalise(unwrap(shorter)), answer, rules)
    if rules.fallback and (asked := ask(gold, answer)) is not None:
        return asked
    return wrong("words") if is_words(gold) else ungradable(f"gold: {gold_error}")


def _is_computable(tree: Node, rules: GraderConfig) -> bool:
    """Whether a gold can be compared with anything at all, zero for one."""
    try:
        same(tree, number(0), rules)
    except (Undecided, TooLargeError, RecursionError):
        return False
    return True


def _read(text: str) -> tuple[Node | None, ParseError | None]:
    if (meaning := as_tree(text)) is not None:
        return meaning, None
    try:
        return parse_normalised(text), None
    except ParseError as error:
        return None, error
    except RecursionError:
        return None, ParseError("nested too deeply")


def _same_in_any_reading(gold: str, answer: str, gold_tree: Node, tree: Node, rules: GraderConfig) -> str | None:
    if (layer := same(gold_tree, tree, rules)) is not None:
        return layer
    if not symbols(gold_tree) and (measure := with_letter_unit(tree)) is not None:
        return same(gold_tree, measure, rules)
    if (
        isinstance(tree, Quantity)
        and parse_unit(tree.unit).dimensions
        and (measure := with_letter_unit(gold_tree)) is not None
    ):
        return same(measure, tree, rules)
    if "," in gold or "," in answer:
        for one, other in _comma_readings(gold, answer, rules):
            left, right = _read_again(one), _read_again(other)
            if left is not None and right is not None and (layer := same(left, right, rules)) is not None:
                return layer
    return None


_LISTED = re.compile(r"\d{1,3}(?:,\d{3})+")
_DECIMAL_COMMA = re.compile(r"(?<![\d,.])(\d+),(\d+)(?![\d,.])")
_PLAIN_DECIMAL = re.compile(r"[^,]*\d\.\d[^,]*")


def _comma_readings(gold: str, answer: str, rules: GraderConfig) -> list[tuple[tuple[str, bool], tuple[str, bool]]]:
    """Other readings of commas: 100,200,300 as a list; 1,22 as 1.22 where the other side is a decimal."""
    readings = []
    if _LISTED.search(gold) or _LISTED.search(answer):
        readings.append(((gold, False), (answer, False)))
    if rules.european_numbers:
        for one, other, swapped in ((gold, answer, False), (answer, gold, True)):
            if (
                _PLAIN_DECIMAL.fullmatch(other)
                and "," not in other
                and (again := _DECIMAL_COMMA.sub(r"\1.\2", one)) != one
                and "," not in again
            ):
                pair = ((again, True), (other, True))
                readings.append(pair[::-1] if swapped else pair)
    return readings


def _read_again(reading: tuple[str, bool]) -> Node | None:
    try:
        return parse_normalised(*reading)
    except (ParseError, RecursionError):
        return None
