"""How a page carries its formulas: every form that is common on the web."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from html import escape
from urllib.parse import quote

from dsm.corpus.crawl.formulas import asciimath, mathml
from dsm.corpus.crawl.pen import Formula

Encoder = Callable[[Formula, bool], str]
_NAMESPACE = 'xmlns="http://www.w3.org/1998/Math/MathML"'


@lru_cache(8192)
def _mathml(formula: Formula) -> str:
    return mathml(formula.node)


@lru_cache(8192)
def _glyphs(formula: Formula) -> str:
    """What a reader sees of a formula that is set in boxes."""
    letters = [letter for letter in formula.latex if letter not in "\\{}^_& "]
    return "".join([f'<span class="mord">{escape(letter)}</span>' for letter in letters])


def _dollars(formula: Formula, display: bool) -> str:
    mark = "$$" if display else "$"
    return f"{mark}{escape(formula.latex, quote=False)}{mark}"


def _container(formula: Formula, display: bool) -> str:
    return f'<span class="math-container">{_dollars(formula, display)}</span>'


def _parentheses(formula: Formula, display: bool) -> str:
    text = escape(formula.latex, quote=False)
    return rf"\[{text}\]" if display else rf"\({text}\)"


def _script(formula: Formula, display: bool) -> str:
    mode = "; mode=display" if display else ""
    return f'<span class="MathJax_Preview"></span><script type="math/tex{mode}">{formula.latex}</script>'


def _bare_mathml(formula: Formula, display: bool) -> str:
    return f'<math {_NAMESPACE} display="{"block" if display else "inline"}">{_mathml(formula)}</math>'


def _alttext(formula: Formula, display: bool) -> str:
    attributes = f'class="ltx_Math" alttext="{escape(formula.latex)}" display="{"block" if display else "inline"}"'
    return f"<math {_NAMESPACE} {attributes}>{_mathml(formula)}</math>"


def _annotated(formula: Formula, display: bool, tex: str = "") -> str:
    note = f'<annotation encoding="application/x-tex">{escape(tex or formula.latex, quote=False)}</annotation>'
    return f"<math {_NAMESPACE}><semantics>{_mathml(formula)}{note}</semantics></math>"


def _katex(formula: Formula, display: bool) -> str:
    html = f'<span class="katex-html" aria-hidden="true"><span class="base">{_glyphs(formula)}</span></span>'
    text = f'<span class="katex"><span class="katex-mathml">{_annotated(formula, display)}</span>{html}</span>'
    return f'<span class="katex-display">{text}</span>' if display else text


def _wiki(formula: Formula, display: bool) -> str:
    tex = rf"{{\displaystyle {formula.latex}}}"
    kind = "display" if display else "inline"
    image = f"https://images.example/math/render/svg/{hash_of(formula.latex):x}"
    return (
        f'<span class="mwe-math-element"><span class="mwe-math-mathml-{kind} mwe-math-mathml-a11y"'
        f' style="display: none;">{_annotated(formula, display, tex)}</span><img src="{image}"'
        f' class="mwe-math-fallback-image-{kind}" aria-hidden="true" alt="{escape(tex)}"></span>'
    )


def hash_of(text: str) -> int:
    """A number for a text, the same in every process."""
    return zlib.crc32(text.encode())


def _codecogs(formula: Formula, display: bool) -> str:
    return f'<img src="https://latex.codecogs.com/gif.latex?{quote(formula.latex)}" title="{escape(formula.latex)}">'


def _wordpress(formula: Formula, display: bool) -> str:
    source = f"https://s0.wp.com/latex.php?latex={quote(formula.latex)}&amp;bg=ffffff&amp;fg=333333&amp;s=0"
    return f'<img src="{source}" alt="{escape(formula.latex)}" title="{escape(formula.latex)}" class="latex">'


def _text(formula: Formula, display: bool) -> str:
    """As people type who know no other way: characters only. Nothing tells that it is a formula."""
    return escape(asciimath(formula.node), quote=False).replace("*", "×")


def _asciimath(formula: Formula, display: bool) -> str:
    return f"`{escape(asciimath(formula.node), quote=False)}`"


ENCODINGS: dict[str, Encoder] = {
    "dollars": _dollars,
    "container": _container,
    "parentheses": _parentheses,
    "script": _script,
    "mathml": _bare_mathml,
    "annotated": _annotated,
    "alttext": _alttext,
    "katex": _katex,
    "wiki": _wiki,
    "codecogs": _codecogs,
    "wordpress": _wordpress,
    "asciimath": _asciimath,
    "text": _text,
}
MARKED = [name for name in ENCODINGS if name != "text"]
"""Encodings that an extractor can recognise."""

_TEX = (
    '<script type="text/x-mathjax-config">MathJax.Hub.Config({"tex2jax":{"inlineMath": [["$","$"],["\\\\(","\\\\)"]]}})'
    ';</script><script async src="https://cdn.example/mathjax/2.7.5/MathJax.js?config=TeX-AMS_HTML"></script>'
)
HEADS = dict.fromkeys(("dollars", "container", "parentheses", "script"), _TEX) | {
    "asciimath": '<script async src="https://cdn.example/mathjax/2.7.5/MathJax.js?config=AM_HTMLorMML"></script>',
    "katex": '<link rel="stylesheet" href="https://cdn.example/katex@0.16/dist/katex.min.css">',
}
"""What the head of a page brings for an encoding."""
