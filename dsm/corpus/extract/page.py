"""One page in, its text out, formulas as LaTeX in reading order.

The way is: characters, one parse, the rewriting of formulas in the DOM (`rewrite`; only where the page has any), and
resiliparse's extraction of the main content from that same DOM. Nothing a page holds can stop the work: pages are cut
at `MAX_BYTES`, and where elements nest deeper than any real page's, menus are kept, for the search of the main content
takes time by the square of the depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from dsm.corpus.extract.charset import decode
from dsm.corpus.extract.furniture import without_furniture
from dsm.corpus.extract.language import Language, language_of
from dsm.corpus.extract.protect import clear_names, protect
from dsm.corpus.extract.rewrite import has_formulas, normalise_source, rewrite

VERSION = "1"
"""Raised when the same page gives another text."""

MAX_BYTES = 4 << 20
MAX_DEPTH = 256
_LITTLE = 250  # characters: less is a headline
_TOO_DEEP = "body" + " > *" * MAX_DEPTH

_SKIPPED = [".MathJax_Message", ".MathJax_Hidden", ".katex-error", ".mw-editsection", ".mw-jump-link"]
_GROUPS = re.compile(r"\$\\(?:begin|end)group\$")
_TAGGED = re.compile(r"\[(i?tex|math|latex)\](.{1,3000}?)\[/\1\]", re.DOTALL | re.IGNORECASE)
_WORDPRESS = re.compile(r"\$latex\s+([^$\n]{1,2000}?)\$")
_BLANK_LINES = re.compile(r"\n{3,}")
_DELIMITED = re.compile(  # each begins with a plain character, which makes the search fast
    r"\$\$.{1,4000}?\$\$|\$(?P<inline>[^$\n]{1,600})\$|\\\(.{1,1000}?\\\)|\\\[.{1,4000}?\\\]|(?P<escaped>\\\$)"
    r"|\\begin\{(?P<name>(?:equation|align|gather|multline|eqnarray|alignat|flalign)\*?)\}.{1,8000}?\\end\{(?P=name)\}",
    re.DOTALL,
)
_MONEY = re.compile(r"\s|\d[\d.,]*(?:\s|[kKmMbB]\b)(?!.*[\\^_={])|.*\b(?:and|to|or|the|per|for)\b(?!.*[\\^_={])")


@dataclass(frozen=True)
class Extracted:
    """What is kept of a page.

    Attributes:
        text: its main content, paragraphs on lines of their own; "" where there is none.
        formulas: formulas in the text, between delimiters of TeX.
        truncated: the page was longer than `MAX_BYTES` and its end was not read.
    """

    text: str
    title: str
    formulas: int
    language: Language
    truncated: bool = False


def extract(html: bytes | str, *, charset: str | None = None) -> Extracted:
    """Extract a page.

    Args:
        html: the page, as it came or decoded.
        charset: what the HTTP header said, if anything.
    """
    truncated = len(html) > MAX_BYTES
    html = html[:MAX_BYTES]
    source = decode(html, charset) if isinstance(html, bytes) else html
    source = normalise_source(source.replace("\x00", "") if "\x00" in source else source)
    if isinstance(html, str) and not source.isascii():
        source = source.encode("utf-8", "replace").decode()  # a lone surrogate, as JSON may hold, is no character
    tree = HTMLTree.parse(source)
    rewritten = 0
    if has_formulas(tree):
        rewritten = rewrite(tree)
        protect(tree)
    document = tree.document
    deep = document is not None and document.query_selector(_TOO_DEEP) is not None
    text = _readable(tree, main_content=not deep)
    if not deep and _is_lost(tree, text, rewritten):
        clear_names(tree)
        text = max(text, _readable(tree), key=len)
    text = tidy(text)
    return Extracted(text, " ".join((tree.title or "").split()), count_formulas(text), language_of(text), truncated)


def _readable(tree: HTMLTree, *, main_content: bool = True) -> str:
    return extract_plain_text(
        tree,
        main_content=main_content,
        preserve_formatting=True,
        alt_texts=False,
        post_meta=False,
        skip_elements=_SKIPPED,
    )


def _is_lost(tree: HTMLTree, text: str, rewritten: int) -> bool:
    """Whether the search for the main content missed it: hardly any text is left of a page that has much of it, or of
    many formulas that were set, few."""
    if rewritten >= 4 and text.count("$") < rewritten:  # two dollars a formula: less than half of them
        return True
    return len(text) < _LITTLE and len(_readable(tree, main_content=False)) > 8 * len(text) + _LITTLE


def tidy(text: str) -> str:
    """The text with tags of forums as delimiters of TeX, without controls of the page, and with single blank lines."""
    if "[/" in text:
        text = _TAGGED.sub(_delimited, text)
    if "$latex" in text:
        text = _WORDPRESS.sub(r"$\1$", text)
    if "group$" in text:
        text = _GROUPS.sub("", text)
    text = without_furniture(text.replace("$$\n ", "$$\n"))
    return (_BLANK_LINES.sub("\n\n", text) if "\n\n\n" in text else text).strip()


def _delimited(match: re.Match[str]) -> str:
    tex = match.group(2).strip()
    if tex.startswith("$") or not tex:
        return tex
    return f"$${tex}$$" if match.group(1).lower() == "tex" else f"${tex}$"


def count_formulas(text: str) -> int:
    """Formulas between delimiters of TeX; sums of money between two dollars are none."""
    if "$" not in text and "\\" not in text:
        return 0
    count = 0
    position = 0
    while match := _DELIMITED.search(text, position):
        position = match.end()
        if (inner := match["inline"]) is not None and _MONEY.match(inner):
            position = match.end() - 1  # the second dollar may open a formula
        elif match["escaped"] is None:
            count += 1
    return count
