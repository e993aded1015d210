"""Elements of MathML as the translation reads them: each step on resiliparse's DOM makes an object anew, so once."""

from __future__ import annotations

from resiliparse.parse.html import ElementNode

from dsm.corpus.extract.formulas.characters import visible

MAX_DEPTH = 100


class Element:
    """One element, its name without prefix, its child elements, and its text where it has no child elements.

    Below `MAX_DEPTH` an element is its text and nothing more: no formula is so deep.
    """

    __slots__ = ("_node", "children", "raw", "tag", "text")

    def __init__(self, node: ElementNode, depth: int = 0) -> None:
        self._node = node
        self.tag = (node.tag or "").rpartition(":")[2]
        self.children: list[Element] = []
        child = node.first_element_child if depth < MAX_DEPTH else None
        while child is not None:
            self.children.append(Element(child, depth + 1))
            child = child.next_element_sibling
        self.raw = "" if self.children else visible(node.text or "")
        self.text = " ".join(self.raw.split()) if self.raw else ""

    def get(self, name: str) -> str:
        return self._node.getattr(name) or ""

    def has(self, name: str) -> bool:
        return self._node.has_attribute(name)

    @property
    def all_text(self) -> str:
        """Text of the element and of all in it."""
        return " ".join(visible(self._node.text or "").split())
