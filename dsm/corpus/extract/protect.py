"""What the search for the main content would drop although it holds formulas, put so that it is kept.

resiliparse takes every `<ul>` near the top of the page for a menu, and never takes `<figure>`, `<aside>`, `<label>` and
`<button>` for content. In mathematics those are lists of cases, displayed equations, definitions, answers to choose
from. So where they hold formulas and are not mostly links, lists are set deeper and the others become `<div>`.

And once in a while elements around everything bear a name (`modal`, `off-canvas`) that is a menu's elsewhere, so that
nothing is left of the page: `clear_names` takes the names off.
"""

from __future__ import annotations

import re

from resiliparse.parse.html import ElementNode, HTMLTree

from dsm.corpus.extract.dom import new_element

_FORMULA = re.compile(r"\$[^$]{1,400}\$|\\\(.{1,400}?\\\)|\\\[.{1,2000}?\\\]|\\begin\{", re.DOTALL)
_LIST_DEPTH = 3  # divisions under which resiliparse keeps a list
_MOSTLY_LINKS = 0.5


def protect(tree: HTMLTree) -> None:
    """Set the lists, figures, asides and labels of a page that hold formulas so that they count as content."""
    document = tree.document
    if document is None:
        return
    for node in document.query_selector_all("ul, figure, aside, label, button").values():
        text = node.text or ""
        if not _FORMULA.search(text) or _link_share(node, text) > _MOSTLY_LINKS:
            continue
        if node.tag == "ul":
            _deepen(tree, node)
        else:
            _rename(tree, node)


def _link_share(node: ElementNode, text: str) -> float:
    links = sum(len(link.text or "") for link in node.query_selector_all("a").values())
    return links / max(1, len(text))


def _deepen(tree: HTMLTree, node: ElementNode) -> None:
    parent = node.parent
    if parent is None or parent.tag in ("ul", "ol", "li"):
        return
    outer = inner = new_element(tree, "div")
    for _ in range(_LIST_DEPTH - 1):
        deeper = new_element(tree, "div")
        inner.append_child(deeper)
        inner = deeper
    parent.replace_child(outer, node)
    inner.append_child(node)


def _rename(tree: HTMLTree, node: ElementNode) -> None:
    parent = node.parent
    if parent is None:
        return
    division = new_element(tree, "div")
    for child in node.child_nodes.values():
        division.append_child(child)
    parent.replace_child(division, node)


def clear_names(tree: HTMLTree) -> None:
    """Take the classes off all elements, so that only tags tell content from the rest."""
    document = tree.document
    if document is not None:
        for node in document.query_selector_all("[class]").values():
            node.remove_attribute("class")
