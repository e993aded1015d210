r"""From what a model wrote to its answer. What the answer is worth is another matter, see `strict` and `paper`.

Extractors by name: `final` tries the places where answers stand, the most explicit first; the others look in one place.
Each says which rule found the answer and what was odd about the text, so that a wrong score can be traced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from dsm.answers import official
from dsm.answers.boxes import boxes, last_group
from dsm.answers.choices import find_letters
from dsm.answers.cues import after_cue, cut_tail
from dsm.answers.numbers import last_number, plain_digits, without_currency
from dsm.errors import UserError


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer (None: there is none), the rule that found it, and flags that a format reward may look at.

    Flags: "several boxes" (they do not say the same), "text after" (words behind the box or the #### line), "cut" (the
    end of the answer's sentence was left out), "open box" (a box is never closed; it was not used).
    """

    answer: str | None
    rule: str
    flags: tuple[str, ...] = ()


NOTHING = Extraction(None, "none")

_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_SHORT_ANSWER = re.compile(r"[^a-zA-Z]*(?:[a-zA-Z%]+\W*){0,3}")
_MINERVA = re.compile(r"final answer is:?\s*([^\n]{1,1000}?)\.?\s*I hope (?:it|this) is correct", re.IGNORECASE)
_MATHS_ENDS = (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
_PROSE = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{3,}(?![a-zA-Z}])|[一-鿿]")
_LONGEST_FORMULA = 300
_WORD = re.compile(r"\w{2}")
_SENTENCE = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z'’]{2,}(?:[\s,]+[a-zA-Z'’]{2,}){2,}|[一-鿿]{4,}")


def extract(text: str, extractor: str) -> Extraction:
    """The answer in `text`, looked for by the extractor of this name (a key of `EXTRACTORS`).

    Never raises on any text; time is linear in its length.

    Raises:
        UserError: if there is no extractor of this name.
    """
    if extractor not in EXTRACTORS:
        raise UserError(f"extractor={extractor}: must be one of {', '.join(EXTRACTORS)}")
    return EXTRACTORS[extractor](text)


def bare(text: str) -> str:
    """A text that may be an answer or a sentence that holds one, as an answer: a sentence goes through `final`.

    It is a sentence if it has a box, announces an answer, or has three words of prose in a row.
    """
    if "boxed" not in text and "fbox" not in text and after_cue(text) is None and not _SENTENCE.search(text):
        return text
    found = final(text)
    return text if found.answer is None or "open box" in found.flags else found.answer


# ---------------------------------------------------------------- one place each


def boxed(text: str) -> Extraction:
    r"""The last complete \boxed; boxes that a mere comma or `and` joins to it are one answer with it."""
    found = boxes(text)
    flags: tuple[str, ...] = ("open box",) if _has_open_box(text, len(found)) else ()
    if not found:
        return Extraction(None, "none", flags)
    group = last_group(text, found)
    answer = ", ".join(dict.fromkeys(box.content.strip() for box in group))
    if len({_squeezed(box.content) for box in found}) > len(group):
        flags += ("several boxes",)
    if "open box" not in flags and _WORD.search(text, group[-1].end):
        flags += ("text after",)
    if not answer:
        return Extraction(None, "none", flags)
    return Extraction(answer, "boxed" if len(group) == 1 else "boxes", flags)


def hashes(text: str) -> Extraction:
    """What stands behind the last `####` that is no headline: `#### 72`."""
    for match in reversed(list(_HASHES.finditer(text))):
        answer = match[1].strip()
        last = not text[match.end() :].strip()
        if answer and (last or (_SHORT_ANSWER.fullmatch(answer) and any(c.isdigit() for c in answer))):
            return Extraction(answer, "####", () if last else ("text after",))
    return NOTHING


def stated(text: str) -> Extraction:
    """What follows the last `the answer is`, `答案是`, `故选`: up to the end of its formula, clause or sentence."""
    found = after_cue(text)
    if found is None:
        return NOTHING
    rule, sentence = found
    answer, cut = cut_tail(sentence)
    return Extraction(answer, rule, ("cut",) if cut else ()) if answer else NOTHING


def minerva(text: str) -> Extraction:
    """The first `final answer is $...$. I hope it is correct`: base models go on to a next problem. Else `final`."""
    if "I hope" in text and (match := _MINERVA.search(text)):
        answer = _unmathed(match[1].strip())
        if answer:
            return Extraction(answer, "final answer is")
    return final(text)


def program_output(text: str) -> Extraction:
    """The last line of the last ```output block."""
    if "```output" not in text:
        return NOTHING
    output = text.rpartition("```output")[2].partition("```")[0].strip()
    return Extraction(output.splitlines()[-1].strip(), "program output") if output else NOTHING


def formula_or_number(text: str) -> Extraction:
    """The last number, or the formula between dollar signs that it is part of, behind its last equals sign."""
    plain = plain_digits(text)
    match = last_number(plain)
    if match is None:
        return NOTHING
    formula = _formula_around(plain, *match.span("number")) if "$" in plain or "\\" in plain else None
    if formula is not None and formula != match["number"]:
        return Extraction(formula, "last formula")
    return Extraction(without_currency(match["number"]), "last number")


def number(text: str) -> Extraction:
    """The last number, as written; a currency sign goes, a percent sign stays."""
    match = last_number(plain_digits(text))
    return Extraction(without_currency(match["number"]), "last number") if match else NOTHING


def choice(text: str) -> Extraction:
    """The chosen letters, in capitals and in order, without anything between: `B`, `ACD`.

    Looked for in the last box, behind the last `the answer is`, `答案是` or `故选`, then as letters that stand alone.
    """
    found = boxes(text)
    if found and (letters := find_letters(found[-1].content, "box")):
        return Extraction(letters, "boxed letters", ("several boxes",) if len({b.content for b in found}) > 1 else ())
    cue = after_cue(text, "letters")
    if cue is not None and (letters := find_letters(cue[1], "sentence")):
        return Extraction(letters, cue[0])
    letters = find_letters(text[-2000:], "text")
    return Extraction(letters, "last letters") if letters else NOTHING


# ---------------------------------------------------------------- the cascade


def final(text: str) -> Extraction:
    r"""The most explicit statement: \boxed, ####, `the answer is`, a program's output, the last formula or number.

    `The final answer is $...$. I hope it is correct` behind the last box goes before it.
    """
    if "I hope" in text and (match := _last_minerva(text)) and "boxed" not in text[match.start() :]:
        return Extraction(_unmathed(match[1].strip()), "final answer is")
    flags: tuple[str, ...] = ()
    for rule in (boxed, hashes, stated, program_output, formula_or_number):
        found = rule(text)
        flags += found.flags
        if found.answer is not None:
            return found if found.flags == flags else Extraction(found.answer, found.rule, flags)
    return Extraction(None, "none", flags)


def _official(find: Callable[[str], official.Found]) -> Callable[[str], Extraction]:
    def extractor(text: str) -> Extraction:
        answer, rule = find(text)
        return Extraction(answer, rule) if answer else NOTHING

    return extractor


EXTRACTORS: dict[str, Callable[[str], Extraction]] = {
    "final": final,
    "boxed": boxed,
    "hashes": hashes,
    "last_number": number,
    "choice": choice,
    "minerva": minerva,
    "paper_answer": _official(official.answer),
    "paper_math": _official(official.math),
    "paper_gsm8k_few_shot": _official(official.gsm8k_few_shot),
    "paper_cmath_few_shot": _official(official.cmath_few_shot),
    "paper_mathcloze": _official(official.mathcloze),
    "paper_mathqa": _official(official.mathqa),
    "paper_choice": _official(official.choice),
    "paper_ocw": _official(official.ocw),
}


# ---------------------------------------------------------------- helpers


def _last_minerva(text: str) -> re.Match[str] | None:
    return max(_MINERVA.finditer(text), key=re.Match.start, default=None)


def _has_open_box(text: str, complete: int) -> bool:
    """Whether a box opens behind the last complete one and never closes."""
    return text.count("boxed{") > complete and "\\boxed{\\boxed" not in text


def _squeezed(content: str) -> str:
    return re.sub(r"\s|\\[,;! ]", "", content)


def _unmathed(text: str) -> str:
    """`$5$` as `5`; text with several formulas stays as it is."""
    for opening, closing in (("$$", "$$"), *_MATHS_ENDS):
        if len(text) > 2 * len(opening) and text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            return inner.strip() if closing not in inner else text
    return text


def _formula_around(text: str, start: int, end: int) -> str | None:
    """The formula in dollar signs that holds text[start:end], from its last equals sign; None where prose is near."""
    before, after = text[max(start - _LONGEST_FORMULA, 0) : start], text[end : end + _LONGEST_FORMULA]
    if text[start] == "$":  # the pattern took the opening sign for money
        before += "$"
        start += 1
    for opening, closing in _MATHS_ENDS:
        left, right = before.rfind(opening), after.find(closing)
        if left < 0 or right < 0:
            continue
        formula = before[left + len(opening) :] + text[start:end] + after[:right]
        if _PROSE.search(re.sub(r"\\(?:text|mathrm|mbox|operatorname)\s*\{[^{}]*\}", "", formula)) or "\n\n" in formula:
            continue
        return re.split(r"(?<![<>!:\\])=", formula)[-1].strip() or None
    return None
