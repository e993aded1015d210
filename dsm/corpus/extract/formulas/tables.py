"""Tables of MathML: matrices, cases, aligned lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dsm.corpus.extract.formulas.elements import Element

Cell = Callable[[Element], str]
_MATRICES = {("(", ")"): "pmatrix", ("[", "]"): "bmatrix", ("{", "}"): "Bmatrix", ("|", "|"): "vmatrix",
             ("∣", "∣"): "vmatrix", ("‖", "‖"): "Vmatrix", ("∥", "∥"): "Vmatrix", ("{", ""): "cases"}  # fmt: skip


def matrix(node: Element, opening: str, closing: str, cell: Cell) -> str:
    """The table between two fences as the environment of its own that LaTeX has for them, or "" where it has none."""
    name = _MATRICES.get((opening, closing))
    if name is None or "solid" in node.get("columnlines") + node.get("rowlines"):
        return ""
    return _environment(name, "", node, cell)


def table(node: Element, cell: Cell) -> str:
    """A table that stands alone: `aligned` where columns alternate right and left, as equations do, `array` where lines
    are drawn or columns are not centred, else `matrix`."""
    columns = _columns(node)
    aligns = [word[:1] for word in node.get("columnalign").split() if word[:1] in ("l", "c", "r")]
    lines = node.get("columnlines").split()
    if columns > 1 and aligns[:2] == ["r", "l"] and aligns[:columns] == (["r", "l"] * columns)[: len(aligns[:columns])]:
        return _environment("aligned", "", node, cell)
    if columns == 1 and len(list(_rows(node))) > 1 and not lines:
        return _environment("gathered" if (aligns or ["c"])[0] == "c" else "aligned", "", node, cell)
    if columns == 1 and not lines:
        return " ".join(text for text in (cell(found) for row, _ in _rows(node) for found in row) if text)
    if "solid" in lines or (aligns and set(aligns) != {"c"}):
        letters = [aligns[min(i, len(aligns) - 1)] if aligns else "c" for i in range(columns)]
        bars = ["|" if lines and lines[min(i, len(lines) - 1)] == "solid" else "" for i in range(columns - 1)] + [""]
        spec = "".join(letter + bar for letter, bar in zip(letters, bars, strict=True))
        return _environment("array", f"{{{spec}}}", node, cell)
    return _environment("matrix", "", node, cell)


def _environment(name: str, spec: str, node: Element, cell: Cell) -> str:
    rows = []
    for cells, label in _rows(node):
        row = " & ".join(cell(found).strip() for found in cells)
        number = cell(label).strip() if label is not None else ""
        rows.append(row + (f" \\tag{{{number}}}" if number else ""))
    return f"\\begin{{{name}}}{spec} " + " \\\\ ".join(rows) + f" \\end{{{name}}}"


def _columns(node: Element) -> int:
    return max((len(cells) for cells, _ in _rows(node)), default=0)


def _rows(node: Element) -> Iterator[tuple[list[Element], Element | None]]:
    """Cells of each row, and the cell that holds its number, if any."""
    for row in node.children:
        if row.tag in ("mtr", "mlabeledtr"):
            labelled = row.tag == "mlabeledtr" and len(row.children) > 1
            yield (row.children[1:], row.children[0]) if labelled else (row.children, None)
