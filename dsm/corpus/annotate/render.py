"""A page's text as it is shown to people: paragraphs, with its formulas drawn.

Formulas are what stands in `$$..$$`, `\\[..\\]`, `\\begin{..}..\\end{..}` (display), `\\(..\\)` and `$..$` (inline). A
price is no formula: a dollar opens one only where no blank follows it, and closes one only where no blank goes before
it and no digit follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from dsm.corpus.annotate.mathml import FormulaError, to_mathml

_ENVIRONMENTS = "equation|align|alignat|gather|multline|eqnarray|flalign|displaymath|math|aligned|split|array|cases"
_FORMULA = re.compile(
    r"\$\$(?P<dollars>.+?)\$\$"
    r"|\\\[(?P<bracket>.+?)\\\]"
    rf"|(?P<environment>\\begin\{{(?P<name>(?:{_ENVIRONMENTS})\*?)\}}.+?\\end\{{(?P=name)\}})"
    r"|\\\((?P<paren>.+?)\\\)"
    r"|(?<![\\$\w])\$(?![\s$])(?P<dollar>(?:[^$\\\n]|\\.|\n(?!\s*\n)){1,600}?)(?<![\s\\])\$(?![\d$])",
    re.DOTALL,
)
_CLOSING = re.compile(r"[.,;:!?)\]’”。，；：！？、）】》]+")
_DISPLAY = ("dollars", "bracket", "environment")


@dataclass(frozen=True)
class Excerpt:
    """A part of a page.

    Attributes:
        html: safe to put into the page.
        more: characters of the page that are not in it.
        formulas: how many are shown.
    """

    html: str
    more: int
    formulas: int


def excerpt(text: str, chars: int) -> Excerpt:
    """The beginning of a page; where it has no formula and the page has, the surroundings of the first one too."""
    text = text.strip()
    end = _cut(text, chars)
    parts = [text[:end]]
    shown = end
    if end < len(text) and not _FORMULA.search(parts[0]) and (first := _FORMULA.search(text, end)):
        start = max(end, text.rfind("\n", end, first.start()) + 1, first.start() - 200)
        stop = _cut(text, max(first.end(), start + chars // 2), start)
        parts.append(text[start:stop])
        shown += stop - start
    formulas = sum(len(_FORMULA.findall(part)) for part in parts)
    return Excerpt("<hr>".join(render(part) for part in parts), len(text) - shown, formulas)


def _cut(text: str, chars: int, start: int = 0) -> int:
    """Where to stop after about so many characters: behind a formula that stands there, else between words."""
    if len(text) <= chars:
        return len(text)
    for found in _FORMULA.finditer(text, start):
        if found.start() < chars < found.end():
            return found.end()
        if found.start() >= chars:
            break
    blank = text.find(" ", chars, chars + 40)
    return blank if blank > 0 else chars


def render(text: str) -> str:
    """Paragraphs of HTML; all of the text is escaped, and formulas become MathML."""
    blocks, inline = list[str](), list[str]()

    def close() -> None:
        paragraph = "".join(inline).strip()
        inline.clear()
        if paragraph:
            heading = re.match(r"(#{1,6}) +", paragraph)
            body = paragraph[heading.end() :] if heading else paragraph
            blocks.append(f"<h4>{body}</h4>" if heading else f"<p>{body}</p>")

    for kind, piece in _pieces(text):
        if kind == "text":
            if inline and inline[-1].startswith("<math>") and (glued := _CLOSING.match(piece)):
                inline[-1] = f'<span class="nb">{inline[-1]}{escape(glued[0])}</span>'  # no line begins with a comma
                piece = piece[glued.end() :]
            elif inline and inline[-1].startswith("<math "):
                piece = re.sub(r"^[ \t]*\n(?!\s*\n)", "", piece)
            first, *others = re.split(r"\n\s*\n", piece)
            inline.append(escape(first))
            for other in others:
                close()
                inline.append(escape(other))
        else:
            if kind == "display" and inline:
                inline[-1] = inline[-1].removesuffix("\n")
            inline.append(_formula(piece, display=kind == "display"))
    close()
    return "".join(blocks)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    for found in _FORMULA.finditer(text):
        yield "text", text[at : found.start()]
        name = next(name for name in (*_DISPLAY, "paren", "dollar") if found[name] is not None)
        yield ("display" if name in _DISPLAY else "inline"), found[name]
        at = found.end()
    yield "text", text[at:]


def _formula(latex: str, *, display: bool) -> str:
    try:
        return to_mathml(latex.strip(), display=display)
    except FormulaError as error:
        return f'<code class="tex" title="{escape(str(error), quote=True)}">{escape(latex.strip())}</code>'
