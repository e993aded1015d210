r"""Where the official evaluation of DeepSeekMath looks for answers, for use with the `paper` grader.

These are what they are, defects included: the few-shot reading of GSM8K takes 000 for 70,000. Benchmarks come with
extractors of ours; take these to repeat the paper's protocol to the letter. Several answers (MATH) are one text of
several boxes, \boxed{2}, \boxed{3}, which `paper.grade` takes apart again.
"""

from __future__ import annotations

import re

_FEW_SHOT_NUMBER = re.compile(r"-?\d+\.?\d*")
_LAST_NUMBER = re.compile(r"-?\d*\.?\d+")
_LETTER = re.compile(r"the final answer is \(?([abcd])\)?")
_OCW = re.compile(r"final answer is (.*)\. I hope it is correct.")
_AND = re.compile(r"\\text\{\s*and\s*\}")

Found = tuple[str | None, str]
"""The answer and the rule that found it."""


def gsm8k_few_shot(text: str) -> Found:
    """The last number before the next `Q: `; a comma ends a number."""
    numbers = _FEW_SHOT_NUMBER.findall(text.partition("Q: ")[0])
    return (numbers[-1], "last number") if numbers else (None, "none")


def answer(text: str) -> Found:
    """GSM8K, MGSM-zh and CMATH of tuned models: the last of the answers that `math` finds."""
    found, rule = _answers(text)
    return (found[-1] if found else None), rule


def math(text: str) -> Found:
    r"""MATH: all boxes, or what follows `final answer is`, the last `he answer is`, the program's output, a number."""
    found, rule = _answers(text.partition("Problem:")[0])
    found = [part.strip() for one in found for part in _AND.split(one)]
    if len(found) > 1:
        return ", ".join(rf"\boxed{{{part}}}" for part in found), rule
    return (found[0] if found else None), rule


def cmath_few_shot(text: str) -> Found:
    """The last number of the line behind the first 答案是."""
    text = text.partition("问题：")[0]
    if "答案是" not in text:
        return answer(text)
    numbers = _FEW_SHOT_NUMBER.findall(_line_after(text, "答案是"))
    return (numbers[-1], "答案是") if numbers else (None, "none")


def mathcloze(text: str) -> Found:
    """Gaokao-MathCloze: the line behind the first 答案是."""
    line = _line_after(text.partition("问题 ")[0], "答案是").strip("$")
    return (line, "答案是") if line else (None, "none")


def mathqa(text: str) -> Found:
    """Gaokao-MathQA: of A, B, C, D in the line behind the first 答案是 the one whose first place is the last."""
    line = _line_after(text.partition("问题 ")[0], "答案是")
    letters = [letter for letter in "ABCD" if letter in line]
    return (max(letters, key=line.index), "答案是") if letters else (None, "none")


def choice(text: str) -> Found:
    """SAT and MMLU-STEM: the first `the final answer is (B)`, in any case."""
    match = _LETTER.search(text.partition("Problem:")[0].lower())
    return (match[1].upper(), "final answer is") if match else (None, "none")


def ocw(text: str) -> Found:
    """OCWCourses: `final answer is ... . I hope it is correct.`"""
    match = _OCW.search(text.partition("Problem:")[0])
    return (match[1], "final answer is") if match else (None, "none")


# ---------------------------------------------------------------- helpers


def _answers(text: str) -> tuple[list[str], str]:
    if "final answer is $" in text and "$. I hope" in text:
        found, rule = [text.partition("final answer is $")[2].partition("$. I hope")[0]], "final answer is"
    elif "boxed" in text:
        found, rule = _boxes(text), "boxed"
    elif "he answer is" in text:
        found, rule = [text.rpartition("he answer is")[2]], "he answer is"
    else:
        output = text.rpartition("```output")[2].partition("```")[0].strip() if "```output" in text else ""
        found, rule = (
            ([output], "program output")
            if output
            else (_LAST_NUMBER.findall(text.replace(",", ""))[-1:], "last number")
        )
    lines = [one.strip().partition("\n")[0].lstrip(":").rstrip(".").rstrip("/").strip() for one in found]
    return [line for line in lines if line], rule if any(lines) else "none"


def _boxes(text: str) -> list[str]:
    """What stands behind each `boxed{`, up to the brace that closes it; braces count whether escaped or not."""
    found = []
    for piece in text.split("boxed{")[1:]:
        depth = 0
        for match in re.finditer(r"[{}]", piece):
            depth += 1 if match[0] == "{" else -1
            if depth < 0:
                found.append(piece[: match.start()])
                break
    return found


def _line_after(text: str, cue: str) -> str:
    return text.partition(cue)[2].strip().partition("\n")[0].strip()
