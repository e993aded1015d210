"""How well text was extracted, against pages whose formulas are known.

A formula survives if it is in the text but for white space and braces. Gold that was itself converted, from MathML or
AsciiMath, spells many formulas in other words than we do (`\\stackrel{˙}{x}` for `\\dot{x}`); `same_words` takes the
two spellings to one, and drops the marks that the converter of the gold put where the page has only room.
Boilerplate is prose that the gold text does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SPELLINGS = [
    (r"\\stackrel\{?˙\}?", r"\\dot"),
    (r"\\stackrel\{?\\to ?\}?", r"\\vec"),
    (r"\\mathrm\{?(\\[a-z]+) ?\}?", r"\1"),
    (r"\\mathrm\{?(d[xyt])\}?", r"\1"),
    (r"\|\\begin\{array\}\{c+\}|\\begin\{vmatrix\}", r"|\\begin{matrix}"),
    (r"\\end\{array\}\||\\end\{vmatrix\}", r"\\end{matrix}|"),
    (r"\\begin\{array\}\{rl\}|\\begin\{aligned\}", r"\\begin{matrix}"),
    (r"\\end\{(?:array|aligned)\}", r"\\end{matrix}"),
    (r"\\left\(\\genfrac\{\}\{\}\{0\}\{\}\{(\w)\}\{(\w)\}\\right\)", r"\\binom{\1}{\2}"),
    (r"\\left|\\right|\\quad", ""),
    ("±", r"\\pm"),
    ("×", r"\\times"),
    (r"\\varphi", r"\\phi"),
    (r"\\setminus|\\mathmr|\\textrm|\\ ", ""),
]


_DELIMITED = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)
_FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class GoldPage:
    """The formulas of a page that must survive, and all the words of its main content."""

    name: str
    formulas: list[str]
    words: frozenset[str]

    @classmethod
    def load(cls, path: Path) -> GoldPage:
        """Read a file of `math_pages/gold`: rows with `content` (Markdown) and `content_list` (typed pieces)."""
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        formulas: list[str] = []
        for row in rows:
            listed = list(_listed(row.get("content_list", [])))
            formulas += listed or [a or b for a, b in _DELIMITED.findall(row["content"])]
        text = " ".join(row["content"] for row in rows)
        return cls(path.stem, [tex for tex in formulas if squeezed(tex)], frozenset(_WORD.findall(text.lower())))

    @property
    def converted(self) -> bool:
        """Whether the gold came out of a converter of MathML or AsciiMath."""
        return "mathml" in self.name or "asciimath" in self.name

    def survival(self, text: str, *, spelling: bool = False) -> float | None:
        """Share of the formulas that are in `text`; None where the page has none.

        Args:
            spelling: compare converted gold by `same_words`.
        """
        form = same_words if spelling and self.converted else squeezed
        page = form(text)
        wanted = [squeezed_form for tex in self.formulas if (squeezed_form := form(tex))]
        return sum(tex in page for tex in wanted) / len(wanted) if wanted else None

    def boilerplate(self, text: str) -> int:
        """Characters of words outside formulas that the page's main content does not have."""
        return sum(len(word) for word in _WORD.findall(_FORMULA.sub(" ", text)) if word.lower() not in self.words)


def squeezed(tex: str) -> str:
    """Without white space and braces."""
    return re.sub(r"[\s{}]", "", tex)


def same_words(tex: str) -> str:
    for pattern, words in _SPELLINGS:
        tex = re.sub(pattern, words, tex)
    return squeezed(tex)


def _listed(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for child in node:
            yield from _listed(child)
    elif isinstance(node, dict):
        content = node.get("c", node.get("content"))
        if str(node.get("t", node.get("type"))).startswith("equation"):
            yield str(content["math_content"] if isinstance(content, dict) else content)
        else:
            for child in node.values():
                yield from _listed(child)
