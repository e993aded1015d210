"""Matrices and vectors: their arithmetic on trees, and when two of them are the same."""

from __future__ import annotations

from collections.abc import Callable

from dsm.answers.equality import Undecided
from dsm.answers.nodes import Call, Interval, Matrix, Node, Seq, walk

MAX_PRODUCTS = 1000
Equal = Callable[[Node, Node], bool]
Grid = tuple[tuple[Node, ...], ...]


def carried_out(node: Node) -> Node:
    """The tree with sums, products, multiples and determinants of matrices carried out.

    Raises:
        Undecided: if shapes do not fit or there is too much to do.
    """
    if isinstance(node, Seq) and len(node.items) == 1 and isinstance(node.items[0], Matrix):
        return node.items[0]
    if not isinstance(node, Call) or not any(isinstance(part, Matrix) for part in walk(node)):
        return node
    args = tuple(carried_out(arg) for arg in node.args)
    match node.name, args:
        case "neg", (Matrix(rows),):
            return Matrix(tuple(tuple(Call("neg", (entry,)) for entry in row) for row in rows))
        case "+", _ if all(isinstance(arg, Matrix) for arg in args):
            return _total([arg.rows for arg in args if isinstance(arg, Matrix)])
        case "*", _:
            product = args[0]
            for factor in args[1:]:
                product = _product(product, factor)
            return product
        case "det" | "abs", (Matrix(rows),) if len(rows) == len(rows[0]) <= 4:
            return _determinant(rows)
        case "/", (Matrix(rows), divisor) if not isinstance(divisor, Matrix):
            return Matrix(tuple(tuple(Call("/", (entry, divisor)) for entry in row) for row in rows))
    return Call(node.name, args)


def _total(grids: list[Grid]) -> Matrix:
    if len({(len(grid), len(grid[0])) for grid in grids}) > 1:
        raise Undecided("a sum of matrices of different shapes")
    return Matrix(
        tuple(tuple(Call("+", entries) for entries in zip(*rows, strict=True)) for rows in zip(*grids, strict=True))
    )


def _product(left: Node, right: Node) -> Node:
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        if len(left.rows[0]) != len(right.rows) or len(left.rows) * len(right.rows[0]) * len(right.rows) > MAX_PRODUCTS:
            raise Undecided("a product of matrices that do not fit")
        columns = list(zip(*right.rows, strict=True))
        return Matrix(tuple(tuple(_dot(row, column) for column in columns) for row in left.rows))
    if isinstance(left, Matrix):
        left, right = right, left
    if isinstance(right, Matrix):
        return Matrix(tuple(tuple(Call("*", (left, entry)) for entry in row) for row in right.rows))
    return Call("*", (left, right))


def _dot(row: tuple[Node, ...], column: tuple[Node, ...]) -> Node:
    return Call("+", tuple(Call("*", pair) for pair in zip(row, column, strict=True)))


def _determinant(rows: Grid) -> Node:
    """By the first row."""
    if len(rows) == 1:
        return rows[0][0]
    terms = []
    for column, entry in enumerate(rows[0]):
        minor = _determinant(tuple(row[:column] + row[column + 1 :] for row in rows[1:]))
        terms.append(Call("*", (entry if column % 2 == 0 else Call("neg", (entry,)), minor)))
    return Call("+", tuple(terms))


def same_matrix(gold: Node, answer: Node, equal: Equal) -> bool:
    """Whether two matrices are equal entry by entry; against a tuple or list, a row or column is a vector."""
    first, second = _grid(gold), _grid(answer)
    if first is None or second is None:
        return False
    if isinstance(gold, Matrix) != isinstance(answer, Matrix):
        first, second = _standing(first), _standing(second)
    if [len(row) for row in first] != [len(row) for row in second]:
        return False
    return all(equal(a, b) for rows in zip(first, second, strict=True) for a, b in zip(*rows, strict=True))


def _grid(node: Node) -> Grid | None:
    """The rows of a matrix; of [[1, 2], [3, 4]] too, where pairs have been read as intervals."""
    if isinstance(node, Matrix):
        return node.rows
    if isinstance(node, Interval) and node.closed == (True, True):
        node = Seq("bracket", (node.low, node.high))
    if not isinstance(node, Seq) or node.kind not in ("tuple", "bracket", "vector"):
        return None
    rows: list[tuple[Node, ...]] = []
    for item in node.items:
        if isinstance(item, Seq):
            rows.append(item.items)
        elif isinstance(item, Interval):
            rows.append((item.low, item.high))
    return tuple(rows) if len(rows) == len(node.items) else tuple((item,) for item in node.items)


def _standing(grid: Grid) -> Grid:
    """A row as a column."""
    if len(grid) > 1 and any(len(row) > 1 for row in grid):
        return grid
    return tuple((entry,) for row in grid for entry in row)
