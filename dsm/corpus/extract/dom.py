"""Small steps on resiliparse's DOM that the rewriting of formulas is made of."""

from __future__ import annotations

import re

from resiliparse.parse.html import ElementNode, HTMLTree, Node, TextNode

from dsm.corpus.extract.formulas.tex import display, inline, looks_displayed, unwrapped

_HIDDEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_HIDDEN_CLASS = re.compile(r"hidden|sr-only|screen-?reader|assistive|a11y|offscreen|invisible", re.IGNORECASE)
_INLINE = frozenset({"span", "i", "em", "nobr", "a", "code", "font", "b", "strong", "tt"})


def attribute(node: ElementNode, name: str) -> str:
    return node.getattr(name) or ""


MOST = 20_000
"""Elements of a kind that are looked at in one page: no real page has so many formulas, and each takes its time."""


def found(tree: HTMLTree, selector: str) -> list[ElementNode]:
    """The first `MOST` elements that a selector matches, in order."""
    document = tree.document
    return [] if document is None else document.query_selector_all(selector).values()[:MOST]


def new_text(tree: HTMLTree, text: str) -> Node:
    return _made(tree.create_text_node(text))


def new_element(tree: HTMLTree, tag: str) -> Node:
    return _made(tree.create_element(tag))


def _made(node: Node | None) -> Node:
    if node is None:
        raise MemoryError("the document takes no more nodes")
    return node


def parent_element(node: Node) -> ElementNode | None:
    parent = node.parent
    return parent if isinstance(parent, ElementNode) else None


def attached(node: ElementNode) -> bool:
    """Whether a node found before is still part of the page, not of something that was replaced."""
    return node.closest("html") is not None


def put(tree: HTMLTree, node: ElementNode, tex: str, *, block: bool) -> bool:
    """Set a formula in the place of `node`: `$tex$` in the line, or `$$tex$$` as a paragraph of its own.

    Returns:
        whether there was a formula; an empty one leaves a space, as it does on paper.
    """
    tex, displayed = unwrapped(tex)
    parent = node.parent
    if parent is None:
        return False
    if not tex:
        parent.replace_child(new_text(tree, " "), node)
        return False
    block = block or displayed is True or looks_displayed(tex) or (displayed is None and is_alone(node))
    new = new_text(tree, display(tex) if block else inline(tex))
    if block:
        paragraph = new_element(tree, "div")
        paragraph.append_child(new)
        new = paragraph
    parent.replace_child(new, node)
    _unhide(new)
    return True


def _unhide(node: Node) -> None:
    """Formulas are often kept in hidden spans beside the glyphs or image that were shown."""
    above = parent_element(node)
    for _ in range(3):
        if above is None or above.tag not in _INLINE:
            return
        if _HIDDEN_STYLE.search(attribute(above, "style")):
            above.remove_attribute("style")
        if _HIDDEN_CLASS.search(above.class_name or ""):
            above.remove_attribute("class")
        for name in ("hidden", "aria-hidden"):
            if above.has_attribute(name):
                above.remove_attribute(name)
        above = parent_element(above)


def own_text(node: ElementNode) -> str:
    """Text directly inside an element, not in its children."""
    return "".join(child.value or "" for child in node.child_nodes.values() if isinstance(child, TextNode))


def is_alone(node: ElementNode) -> bool:
    """Whether an element is all that its paragraph holds."""
    parent = parent_element(node)
    if parent is None or parent.tag not in ("p", "div", "center", "dd", "blockquote"):
        return False
    others = node.previous_element_sibling is not None or node.next_element_sibling is not None
    return not others and not own_text(parent).strip()
