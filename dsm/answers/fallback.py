"""The last layer: Math-Verify, for golds that our parser cannot read. Its known false positives are kept out."""

from __future__ import annotations

import logging
import re

from dsm.answers.verdict import Verdict, correct

_UNSAFE = re.compile(r"=|sum|prod|,|ldots|dots|\.\.\.|!|\^\s*\{?\s*-?\d{3,}|\d{30,}")
_MATHS = re.compile(r"\\[a-zA-Z]+|[\d=+^]")
MAX_CHARS = 400


def ask(gold: str, answer: str) -> Verdict | None:
    """`correct` if Math-Verify says so; none if it does not, may not be asked, or is not installed.

    It is asked about short formulas without sequences, factorials and large powers, where it is known to err or hang.
    """
    if max(len(gold), len(answer)) > MAX_CHARS or _UNSAFE.search(gold) or _UNSAFE.search(answer):
        return None
    if not (_MATHS.search(gold) and _MATHS.search(answer)):
        return None
    if any(text.count("{") != text.count("}") for text in (gold, answer)):
        return None
    if max(text.count(bracket) for text in (gold, answer) for bracket in "{([") > 16:
        return None
    return _ask(gold, answer)


def _ask(gold: str, answer: str) -> Verdict | None:
    try:
        from math_verify import LatexExtractionConfig, parse, verify
    except ImportError:
        return None
    for module in ("math_verify.parser", "math_verify.grader", "math_verify"):
        logging.getLogger(module).setLevel(logging.CRITICAL)  # it warns that it has no time limit: the pool has one
    config = [LatexExtractionConfig()]
    try:
        trees = [
            parse(f"\\boxed{{{text}}}", config, parsing_timeout=None, raise_on_error=False) for text in (gold, answer)
        ]
        if not all(any(not isinstance(part, str) for part in tree) for tree in trees):
            return None
        return correct("math-verify") if verify(*trees, timeout_seconds=None, raise_on_error=False) else None
    except Exception:  # its parser and SymPy raise anything
        return None
