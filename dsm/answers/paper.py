r"""The verdicts of the official evaluation of DeepSeekMath, for numbers that can be set beside the paper's.

The protocol (evaluation/eval of github.com/deepseek-ai/DeepSeek-Math): cosmetic rewriting of both strings, then equal
strings, numbers within 1e-3, numbers within a factor of 100 either way (percent), tuples, intervals and matrices entry
by entry, equations, and expressions whose difference vanishes. Lists match as sets. It is lenient, and on purpose so
are we: "3" equals "300", [0, 1) equals (0, 1], 1/5120 equals 1/28800. For rewards there is `strict`.

What differs, and why:

- It hands text of the model to `eval` and SymPy's `parse_expr`; we parse with `dsm.answers.parse`, so nothing of it is
  run. Text that only SymPy's LaTeX grammar reads, or reads in its own way (`2,3` as 2), may be judged differently.
- Differences of expressions are tested at sample points within limits of work, not by `simplify`.
- OCW: a number is close to 0 or to a negative one by its distance; the original multiplies by the signed mean, so that
  7 of the 272 reference answers are unequal to themselves. An expression may also be equal as a number or formula: the
  original means to try this, but returns before it does.
- Gaokao-MathQA: several letters are compared as a set; the original keeps one letter and can never pass 7 items.
- A text is a list where commas outside of brackets separate; the original asks the question's wording for that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from dsm.answers.boxes import boxes
from dsm.answers.equality import Undecided, same_value
from dsm.answers.exact import Irrational, Undefined
from dsm.answers.nodes import symbols, walk
from dsm.answers.numeric import Numeric
from dsm.answers.ocw import grade_ocw
from dsm.answers.parse import Clock, Interval, Matrix, ParseError, Relation, Seq, Words, parse
from dsm.answers.rewriting import rewritten
from dsm.answers.verdict import Verdict, correct, ungradable, wrong
from dsm.config.answers import GraderConfig

_TOLERANCE = 1e-3
_LONGEST = 4_000  # characters; an answer of more is not looked into
_MOST_PARTS = 64
_DEEPEST = 8
_LETTERS = re.compile(r"[A-J]{1,10}")
_BRACKETED = re.compile(r"[(\[].+[)\]]", re.DOTALL)
_MATRIX = re.compile(r"\\begin\{[pb]matrix\}(.*)\\end\{[pb]matrix\}", re.DOTALL)
_NO_EXPRESSION = (Seq, Relation, Interval, Matrix, Words, Clock)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")


def grade(gold: str | Sequence[str], answer: str | Sequence[str], rules: GraderConfig) -> Verdict:
    r"""The official verdict on an answer; `reason` is the step that decided.

    Args:
        gold: one reference answer, or all that are asked for. A text with several \boxed is the list of them, and so
            is one with commas outside of brackets.
        answer: the same; of more answers than references the last ones count.
        rules: `protocol` is "math" (lists match as sets), "cloze" (in order) or "ocw".
    """
    golds, answers = _parts(gold), _parts(answer)
    if not golds:
        return ungradable("empty gold")
    if max(map(len, golds)) > _LONGEST or len(golds) > _MOST_PARTS:
        return ungradable("gold too long")
    if not answers or max(map(len, answers)) > _LONGEST:
        return wrong("too long" if answers else "empty")
    if rules.protocol == "ocw":
        return grade_ocw(", ".join(golds), ", ".join(answers), rules)
    if len(golds) == 1 and _LETTERS.fullmatch(golds[0]):
        return _letters(golds[0], " ".join(answers))
    golds = list(dict.fromkeys(map(rewritten, golds)))
    answers = list(dict.fromkeys(map(rewritten, answers)))[-len(golds) :]
    if golds == answers:
        return correct("string")
    if rules.protocol == "cloze":
        steps = [_equal(g, a, rules) for g, a in zip(golds, answers, strict=False)]
        steps += [None] * (len(golds) - len(answers))
    else:
        table = [[_equal(g, a, rules) for a in answers] for g in golds]
        steps = [next((step for step in row if step), None) for row in table]  # each gold is met ...
        steps += [
            next((step for step in column if step), None) for column in zip(*table, strict=True)
        ]  # each answer, too
    if all(steps):
        return correct(steps[0] or "")
    return wrong("list" if len(golds) > 1 else "different")


def _parts(value: str | Sequence[str]) -> list[str]:
    if not isinstance(value, str):
        return [part.strip() for part in value if part.strip()]
    found = [box.content for box in boxes(value)] if "boxed" in value else []
    if found:
        return [part.strip() for part in found if part.strip()]
    return split_list(value)


def split_list(text: str) -> list[str]:
    """Parts between semicolons, and between commas outside of brackets; a comma in 70,000 is none.

    Brackets may face either way, ]0, 1[; an unbalanced text is one part.
    """
    text = (
        re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
        if re.fullmatch(r"\D*\d{1,3}(?:,\d{3})+(?:\.\d+)?\D*", text)
        else text
    )
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and character in ",;，；" and not text.startswith(",\\!", i):
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    if depth != 0:
        parts = [text]
    return [part.strip() for part in parts if part.strip()]


def _letters(gold: str, answer: str) -> Verdict:
    """Multiple choice: the letters of the answer, in any case where it is nothing but letters."""
    bare = re.sub(r"[^A-Za-z]", "", re.sub(r"\\[a-zA-Z]+", "", answer))
    said = bare.upper() if len(bare) <= len(gold) or bare.isupper() else "".join(re.findall(r"[A-J]", bare))
    return correct("letters") if sorted(set(said)) == sorted(set(gold)) else wrong("letters")


# ---------------------------------------------------------------- one answer


def _equal(gold: str, answer: str, rules: GraderConfig, depth: int = 0) -> str | None:
    """The step that finds two rewritten strings equal, or None."""
    if depth > _DEEPEST:
        return None
    if gold == answer:
        return "string"
    if r"\cup" in gold and r"\cup" in answer and depth == 0:
        table = [
            [_equal(g, a, rules, depth + 1) for a in answer.split(r"\cup")[:_MOST_PARTS]] for g in gold.split(r"\cup")
        ]
        return "union" if all(map(any, table)) and all(map(any, zip(*table, strict=True))) else None
    gold_number, number = _number(gold), _number(answer)
    if gold_number is not None and number is not None:
        return _close(gold_number, number)
    if not answer:
        return None
    if _BRACKETED.fullmatch(gold) and _BRACKETED.fullmatch(answer):
        pairs = gold[1:-1].split(","), answer[1:-1].split(",")
        if _all_equal(*pairs, rules, depth):
            return "entries"
    ours, theirs = _MATRIX.fullmatch(gold), _MATRIX.fullmatch(answer)
    if ours and theirs and _all_equal(_entries(ours[1]), _entries(theirs[1]), rules, depth):
        return "matrix"
    return _equations(gold, answer, rules, depth) or _expressions(gold, answer, rules)


def _all_equal(golds: Sequence[str], answers: Sequence[str], rules: GraderConfig, depth: int) -> bool:
    return len(golds) == len(answers) <= _MOST_PARTS and all(
        _equal(g.strip(), a.strip(), rules, depth + 1) for g, a in zip(golds, answers, strict=True)
    )


def _entries(matrix: str) -> list[str]:
    """Entries row by row, each row ended by a mark that no entry equals."""
    rows = [row.strip() for row in matrix.split(r"\\") if row.strip()]
    return [entry for row in rows for entry in (*row.split("&"), "\n")]


def _number(text: str) -> float | None:
    """A plain number, its commas left out; a percent sign divides it by 100."""
    text = text.replace(",", "").strip()
    percent = text.endswith("%")
    if percent:
        text = text[:-1].removesuffix("\\").strip()
    return float(text) / (100 if percent else 1) if _NUMBER.fullmatch(text) else None


def _close(gold: float, answer: float) -> str | None:
    for step, value in (("number", gold), ("percent", gold / 100), ("percent", gold * 100)):
        if math.isclose(value, answer, rel_tol=1e-9, abs_tol=_TOLERANCE):
            return step
    return None


def _equations(gold: str, answer: str, rules: GraderConfig, depth: int) -> str | None:
    if gold.count("=") == answer.count("=") == 1:
        (gl, gr), (al, ar) = gold.split("="), answer.split("=")
        g, a = f"{gl} - ({gr})", f"{al} - ({ar})"
        return "equation" if _expressions(g, a, rules) or _expressions(g, f"-({a})", rules) else None
    for one, other, swapped in ((gold, answer, False), (answer, gold, True)):
        if one.count("=") == 1 and "=" not in other:
            name, value = one.split("=")
            if len(name.strip()) <= 2 and _equal(*((other, value) if swapped else (value, other)), rules, depth + 1):
                return "value"
    return None


def _expressions(gold: str, answer: str, rules: GraderConfig) -> str | None:
    """Equal formulas, or constants within 1e-3 of each other."""
    try:
        trees = parse(gold), parse(answer)
        if any(isinstance(part, _NO_EXPRESSION) for tree in trees for part in walk(tree)):
            return None
        if symbols(trees[0]) or symbols(trees[1]):
            return "expression" if same_value(*trees, rules) else None
        g, a = (Numeric(30).value(tree) for tree in trees)
        return "expression" if abs(g - a) <= max(_TOLERANCE, 1e-9 * max(abs(g), abs(a))) else None
    except (ParseError, Irrational, Undefined, Undecided, OverflowError):
        return None
