"""Mathematics in running text: AsciiMath between backticks, and indices and powers by `<sub>` and `<sup>`."""

from __future__ import annotations

import re

from resiliparse.parse.html import ElementNode, HTMLTree, Node, TextNode

from dsm.corpus.extract.dom import found, new_text, parent_element
from dsm.corpus.extract.formulas import asciimath
from dsm.corpus.extract.formulas.tex import inline, words

_LOADED = re.compile(r"asciimath|AM[_-](?:\w+-)*(?:HTML|CHTML|SVG|MML|COMMON)|[?&=,]AM[_-]", re.IGNORECASE)
_SKIPPED = frozenset({"script", "style", "pre", "code", "textarea", "noscript", "head", "math", "kbd", "samp"})
_BACKTICKS = re.compile(r"(?<!\\)`([^`]{1,600}?)(?<!\\)`")
_DOLLARS = re.compile(r"\\\$(.{1,600}?)\\\$", re.DOTALL)
_DOLLARS_SET = r'"\\$"'  # as Asciidoctor has it set
_WORDED = re.compile(r"\bamath\b(.{1,600}?)\bendamath\b", re.DOTALL)

_ORDINALS = frozenset(words("st nd rd th er e re ère ème o a ª º tm ® ™ (tm) (r) © sm mo mc"))
_SCRIPTABLE = re.compile(r"[\w)\]}′'|⟩°]$")
_REFERENCE = re.compile(r"[\[(]?[\d,;\s–-]{1,16}[\])]?|[a-z]|\[[^\]]{1,30}\]|[*†‡§¶]+")
_CITED = re.compile(r"^[\[(]?\s*(?:[a-z]|note \d+|\d+)?\s*[\])]$|^[†‡*§¶]+$|^\[.*\]$")


def asciimath_in_text(tree: HTMLTree) -> int:
    """AsciiMath in text between backticks, on pages that load what reads it; never in code."""
    body = tree.body
    document = tree.document
    if body is None or document is None:
        return 0
    scripts = document.query_selector_all("script").values()
    if not any(_loads_asciimath(script) for script in scripts):
        return 0
    dollars = any(_DOLLARS_SET in (script.text or "") for script in scripts)
    done = 0
    for node in _texts(body):
        text = node.value or ""
        if "`" not in text and "\\$" not in text and "endamath" not in text:
            continue
        new, count = _rewritten(text, dollars=dollars)
        if new != text:
            node.value = new
        done += count
    return done


def _loads_asciimath(script: ElementNode) -> bool:
    source = script.getattr("src")
    if source:
        return _LOADED.search(source) is not None
    text = script.text or ""
    return any(name in text for name in ("asciimath", "AsciiMath", "ASCIIMath"))


def _rewritten(text: str, *, dollars: bool) -> tuple[str, int]:
    count = 0

    def formula(match: re.Match[str]) -> str:
        nonlocal count
        tex = asciimath.latex(match.group(1))
        count += bool(tex)
        return inline(tex) if tex else " "

    for pattern in (_WORDED, _DOLLARS, _BACKTICKS) if dollars else (_WORDED, _BACKTICKS):
        text = pattern.sub(formula, text)
    return text.replace("\\`", "`"), count


def _texts(body: ElementNode) -> list[TextNode]:
    """Text nodes that are read as text, in order."""
    nodes: list[TextNode] = []
    stack: list[Node] = [body]
    while stack:
        node = stack.pop()
        if isinstance(node, TextNode):
            nodes.append(node)
        elif isinstance(node, ElementNode) and node.tag not in _SKIPPED:
            stack.extend(reversed(node.child_nodes.values()))
    return nodes


def sub_and_superscripts(tree: HTMLTree) -> int:
    """`x<sup>2</sup>` becomes `x^{2}`; references to notes go, ordinals and trademarks stay as they are.

    Returns:
        0: indices are no formulas of their own.
    """
    for node in found(tree, "sup, sub"):
        text = " ".join((node.text or "").split())
        if node.tag == "sup" and _REFERENCE.fullmatch(text) and _refers(node):
            node.decompose()
            continue
        if not text or len(text) > 40 or not _is_script(node, text):
            continue
        mark = "^" if node.tag == "sup" else "_"
        first, last = new_text(tree, f"{mark}{{"), new_text(tree, "}")
        node.insert_before(first, node.first_child)
        node.append_child(last)
    return 0


def _refers(node: ElementNode) -> bool:
    return node.query_selector("a") is not None or "reference" in (node.class_name or "")


def _is_script(node: ElementNode, text: str) -> bool:
    if node.query_selector("a, img") is not None:
        return False
    above = parent_element(node)
    if above is not None and above.tag == "a":
        return False
    before = _text_before(node)
    if not _SCRIPTABLE.search(before):
        return False
    return node.tag == "sub" or (text.lower() not in _ORDINALS and _CITED.search(text) is None)


def _text_before(node: ElementNode) -> str:
    """What stands right before a node in its line; "" at the start of a line or after a space."""
    before = node.previous_sibling
    if before is None:
        above = parent_element(node)
        before = (
            above.previous_sibling if above is not None and above.tag in ("i", "em", "b", "span", "strong") else None
        )
    text = (
        (before.text or "") if isinstance(before, ElementNode) else (before.value or "") if before is not None else ""
    )
    return text[-8:]
