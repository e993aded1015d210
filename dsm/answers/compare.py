"""Whether two trees are the same answer. The types decide which question that is.

`same` returns the name of the layer that found them equal, or none. It looks through what carries no meaning (names in
front of values, units one side left out, brackets around a list) and never through what does (order in a tuple, open or
closed ends, the number of values).
"""

from __future__ import annotations

from dsm.answers.equality import Undecided, same_value
from dsm.answers.nodes import (
    Based, Call, Clock, Const, Interval, Matrix, Node, Num, Quantity, Relation, Seq, Sym, children, number, rebuild, symbols, walk,
)  # fmt: skip
from dsm.answers.realsets import NotASetError, lay_out, same_pieces
from dsm.answers.relations import named_value, same_statement
from dsm.answers.units import is_letter_unit, parse_unit
from dsm.config.answers import GraderConfig

MAX_ITEMS = 60
_SET_CALLS = frozenset(("union", "intersection", "difference", "or", "and", "both"))
_NAMED_SETS = frozenset("reals integers naturals rationals complexes empty".split())
_INEQUALITIES = frozenset(("<", "<=", ">", ">=", "!=", "notin"))


def same(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    """The layer that finds the two equal ("number", "interval", "set", ...), or none if they are not.

    Raises:
        Undecided: if a value is over a limit, or has no numeric meaning, so that neither can be said.
    """
    if gold == answer:
        return "tree"
    gold, answer = _expand_signs(gold), _expand_signs(answer)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _same_relations(gold, answer, rules)
    if _is_pmod(gold) or _is_pmod(answer):
        return _same_residues(gold, answer, rules)
    if isinstance(gold, Clock) or isinstance(answer, Clock):
        return "clock" if _same_clock(gold, answer, rules) else None
    if isinstance(gold, Based) or isinstance(answer, Based):
        return "base" if _same_based(gold, answer) else None
    if isinstance(gold, Quantity) or isinstance(answer, Quantity) or _is_measure(gold) or _is_measure(answer):
        return _same_quantity(gold, answer, rules)
    gold, answer = _matrices(gold), _matrices(answer)
    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return "matrix" if _same_matrix(gold, answer, rules) else None
    if _is_set(gold) or _is_set(answer):
        return _same_sets(gold, answer, rules)
    if isinstance(gold, Seq) or isinstance(answer, Seq):
        return "list" if _same_sequence(gold, answer, rules) else None
    if _is_ratio(gold) or _is_ratio(answer):
        return "ratio" if _same_ratio(gold, answer, rules) else None
    return "value" if same_value(gold, answer, rules) or _scaled(gold, answer, rules) else None


def _scaled(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    """0.28 for 28 and 28 for 0.28, where the rules allow it."""
    if not rules.percent_scale or symbols(gold) or symbols(answer):
        return False
    hundred = number(100)
    return same_value(Call("*", (gold, hundred)), answer, rules) or same_value(gold, Call("*", (answer, hundred)), rules)


# ---------------------------------------------------------------- plus-minus


def _expand_signs(node: Node) -> Node:
    """Plus-minus, written out: 1 ± x is the list 1 + x, 1 - x."""
    if isinstance(node, Seq) and node.kind in ("list", "set", "group"):
        items: list[Node] = []
        for item in node.items:
            variants = _variants(item)
            items += [item] if variants is None else variants
        return Seq(node.kind, tuple(items)) if tuple(items) != node.items else node
    variants = _variants(node)
    return node if variants is None else Seq("list", tuple(variants))


def _variants(node: Node) -> list[Node] | None:
    if not any(isinstance(part, Call) and part.name in ("pm", "mp") for part in walk(node)):
        return None
    return [_with_sign(node, 1), _with_sign(node, -1)]


def _with_sign(node: Node, sign: int) -> Node:
    parts = tuple(_with_sign(part, sign) for part in children(node))
    if isinstance(node, Call) and node.name in ("pm", "mp"):
        minus = (sign < 0) == (node.name == "pm")
        last = Call("neg", (parts[-1],)) if minus else parts[-1]
        return last if len(parts) == 1 else Call("+", (parts[0], last))
    return rebuild(node, parts) if parts else node


# ---------------------------------------------------------------- relations


def _same_relations(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    names = [named_value(node) if isinstance(node, Relation) else None for node in (gold, answer)]
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        if names[0] is not None and names[1] is not None and _same_name(names[0][0], names[1][0]):
            return same(names[0][1], names[1][1], rules)
        if same_statement(gold, answer):
            return "equation" if "=" in gold.ops else "inequality"
    elif isinstance(gold, Relation) and names[0] is not None:
        return same(names[0][1], answer, rules)
    elif isinstance(answer, Relation) and names[1] is not None and not _is_set(gold):
        return same(gold, names[1][1], rules)
    if names[1] is not None and not isinstance(gold, Relation):
        return same(gold, names[1][1], rules)
    return "interval" if _same_pieces(gold, answer) else None


def _same_name(gold: Node, answer: Node) -> bool:
    """The same quantity; W(n) and W(x) are the same function."""
    if gold == answer:
        return True
    if isinstance(gold, Call) and isinstance(answer, Call) and gold.name == answer.name and len(gold.args) == len(answer.args):
        if gold.name.startswith("@"):
            return all(isinstance(arg, Sym) for arg in (*gold.args, *answer.args))
        return gold.name == "*" and sorted(map(str, gold.args)) == sorted(map(str, answer.args))
    return False


def _is_pmod(node: Node) -> bool:
    return isinstance(node, Call) and node.name == "pmod"


def _same_residues(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    """x ≡ 3 (mod 5) and x ≡ 8 (mod 5); 3 (mod 5) and 3."""
    (residue, modulus), (other, other_modulus) = _residue(gold), _residue(answer)
    if modulus is not None and other_modulus is not None:
        if not same_value(modulus, other_modulus, rules):
            return None
        difference = Call("mod", (Call("+", (residue, Call("neg", (other,)))), modulus))
        return "residue" if same_value(difference, number(0), rules) else None
    return same(residue, other, rules)


def _residue(node: Node) -> tuple[Node, Node | None]:
    match node:
        case Call("pmod", (Relation(("==",), (_, residue)), modulus)):
            return residue, modulus
        case Call("pmod", (Relation(_, sides), modulus)):
            return sides[-1], modulus
        case Call("pmod", (residue, modulus)):
            return residue, modulus
        case Relation(("==",), (_, residue)):
            return residue, None
    return node, None


# ---------------------------------------------------------------- times, bases, ratios


def _same_clock(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    if not (isinstance(gold, Clock) and isinstance(answer, Clock)):
        ratios = [_as_ratio(node) if isinstance(node, Clock) else node for node in (gold, answer)]
        return None not in ratios and _same_ratio(ratios[0], ratios[1], rules)  # type: ignore[arg-type]
    if gold.half and answer.half or not (gold.half or answer.half):
        return _seconds(gold) == _seconds(answer)
    return gold.seconds == answer.seconds or _seconds(gold) == _seconds(answer)


def _as_ratio(time: Clock) -> Node | None:
    """7:32 as seven to thirty-two."""
    minutes = time.seconds % 3600 // 60
    if time.half or time.seconds % 60 or not minutes:
        return None
    return Call("ratio", (number(time.seconds // 3600), number(minutes)))


def _seconds(time: Clock) -> int:
    """Since midnight: 12 am is 0, 12 pm is noon."""
    if time.half is None:
        return time.seconds
    return time.seconds % 43200 + (43200 if time.half == "pm" else 0)


def _same_based(gold: Node, answer: Node) -> bool:
    if isinstance(gold, Based) and isinstance(answer, Based):
        return gold.base == answer.base and gold.value == answer.value
    based, other = (gold, answer) if isinstance(gold, Based) else (answer, gold)
    assert isinstance(based, Based)
    if not isinstance(other, Num):
        return False
    as_written = Based(based.digits, 10).value == other.value
    return as_written and (based.base == 10 or isinstance(gold, Based))


def _is_ratio(node: Node) -> bool:
    return isinstance(node, Call) and node.name == "ratio"


def _same_ratio(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    parts = [node.args if isinstance(node, Call) and node.name == "ratio" else None for node in (gold, answer)]
    if parts[0] is None or parts[1] is None:
        longest = parts[0] or parts[1]
        return longest is not None and len(longest) == 2 and same_value(_quotient(gold), _quotient(answer), rules)
    first, second = parts
    if first is None or second is None or len(first) != len(second):
        return False
    return all(
        same_value(Call("*", (first[0], b)), Call("*", (second[0], a)), rules) for a, b in zip(first[1:], second[1:], strict=True)
    )


def _quotient(node: Node) -> Node:
    return Call("/", node.args) if isinstance(node, Call) and node.name == "ratio" else node


# ---------------------------------------------------------------- quantities


def _is_measure(node: Node) -> bool:
    return isinstance(node, Call) and node.name in ("pct", "deg")


def _parts(node: Node) -> tuple[Node, str]:
    match node:
        case Quantity(value, unit):
            return value, unit
        case Call("pct", (value,)):
            return value, "%"
        case Call("deg", (value,)):
            return value, "deg"
    return node, ""


def _same_quantity(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    (value, unit), (other, other_unit) = _parts(gold), _parts(answer)
    measure, other_measure = parse_unit(unit), parse_unit(other_unit)
    plain, other_plain = not measure.dimensions, not other_measure.dimensions
    if not plain and not other_plain:
        if measure.dimensions != other_measure.dimensions:
            angle = {measure.dimensions, other_measure.dimensions} == {(("angle", 1),), (("degree", 1),)}
            return "unit" if angle and same_value(_radians(value, unit), _radians(other, other_unit), rules) else None
        if measure.factor == other_measure.factor:
            return same(value, other, rules)
        if not rules.convert_units or isinstance(value, Seq) or isinstance(other, Seq):
            return None
        scaled = [Call("*", (node, number(part.factor))) for node, part in ((value, measure), (other, other_measure))]
        return "unit" if same_value(scaled[0], scaled[1], rules) else None
    if plain and other_plain:
        return same(value, other, rules)
    if rules.units == "required" and _parts(gold)[1] != "%" and _parts(answer)[1] != "%":
        return None
    if "%" in (unit, other_unit):
        return _same_percent(gold, answer, rules)
    if (layer := same(value, other, rules)) is not None:
        return layer
    degrees = "degree" in (dimension for part in (measure, other_measure) for dimension, _ in part.dimensions)
    if degrees and any(part == Const("pi") for part in (*walk(value), *walk(other))):
        return "angle" if same_value(_radians(value, unit), _radians(other, other_unit), rules) else None
    return None


def _same_percent(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    (value, unit), (other, other_unit) = _parts(gold), _parts(answer)
    if rules.percent_as_number and (layer := same(value, other, rules)) is not None:
        return layer
    if isinstance(value, Seq) or isinstance(other, Seq):
        return None
    fractions = [Call("pct", (node,)) if of == "%" else node for node, of in ((value, unit), (other, other_unit))]
    return "percent" if same_value(fractions[0], fractions[1], rules) else None


def _radians(value: Node, unit: str) -> Node:
    return Call("deg", (value,)) if parse_unit(unit).dimensions == (("degree", 1),) else value


def with_letter_unit(node: Node) -> Quantity | None:
    """5m and 5m^2 as metres, if the expression is a number times the symbol of a unit."""
    if isinstance(node, Call) and node.name == "*" and len(node.args) == 2:
        value, unit = node.args
        exponent = ""
        if isinstance(unit, Call) and unit.name == "^" and isinstance(unit.args[1], Num):
            unit, exponent = unit.args[0], f"^{unit.args[1].value}"
        if isinstance(unit, Sym) and is_letter_unit(unit.name) and not symbols(value):
            return Quantity(value, unit.name + exponent)
    return None


# ---------------------------------------------------------------- matrices


def _matrices(node: Node) -> Node:
    """Sums, products and multiples of matrices, carried out."""
    if not isinstance(node, Call) or not any(isinstance(part, Matrix) for part in walk(node)):
        if isinstance(node, Seq) and len(node.items) == 1 and isinstance(node.items[0], Matrix):
            return node.items[0]
        return node
    args = tuple(_matrices(arg) for arg in node.args)
    match node.name, args:
        case "neg", (Matrix(rows),):
            return Matrix(tuple(tuple(Call("neg", (entry,)) for entry in row) for row in rows))
        case "+", _ if all(isinstance(arg, Matrix) for arg in args):
            shapes = {(len(arg.rows), len(arg.rows[0])) for arg in args if isinstance(arg, Matrix)}
            if len(shapes) == 1:
                grids = [arg.rows for arg in args if isinstance(arg, Matrix)]
                return Matrix(tuple(tuple(Call("+", entries) for entries in zip(*rows, strict=True)) for rows in zip(*grids, strict=True)))
        case "*", _:
            product = args[0]
            for factor in args[1:]:
                product = _multiplied(product, factor)
            return product
        case "det" | "abs", (Matrix(rows),) if len(rows) == len(rows[0]) <= 4:
            return _determinant(rows)
        case "/", (Matrix(rows), divisor) if not isinstance(divisor, Matrix):
            return Matrix(tuple(tuple(Call("/", (entry, divisor)) for entry in row) for row in rows))
    return Call(node.name, args)


def _determinant(rows: Grid) -> Node:
    if len(rows) == 1:
        return rows[0][0]
    terms = []
    for column, entry in enumerate(rows[0]):
        minor = _determinant(tuple(row[:column] + row[column + 1 :] for row in rows[1:]))
        terms.append(Call("*", (entry if column % 2 == 0 else Call("neg", (entry,)), minor)))
    return Call("+", tuple(terms))


def _multiplied(left: Node, right: Node) -> Node:
    if isinstance(left, Matrix) and isinstance(right, Matrix):
        if len(left.rows[0]) != len(right.rows) or len(left.rows) * len(right.rows[0]) * len(right.rows) > 1000:
            raise Undecided("a product of matrices that do not fit")
        columns = list(zip(*right.rows, strict=True))
        return Matrix(
            tuple(
                tuple(Call("+", tuple(Call("*", pair) for pair in zip(row, column, strict=True))) for column in columns) for row in left.rows
            )
        )
    if isinstance(left, Matrix):
        left, right = right, left
    if isinstance(right, Matrix):
        return Matrix(tuple(tuple(Call("*", (left, entry)) for entry in row) for row in right.rows))
    return Call("*", (left, right))


def _same_matrix(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    grids = [_grid(node) for node in (gold, answer)]
    if grids[0] is None or grids[1] is None:
        return False
    first, second = grids
    if isinstance(gold, Matrix) != isinstance(answer, Matrix):  # a tuple or list is a vector, lying or standing
        first, second = _flat(first), _flat(second)
    if first is None or second is None or [len(row) for row in first] != [len(row) for row in second]:
        return False
    return all(
        same(a, b, rules) is not None for rows in zip(first, second, strict=True) for a, b in zip(*rows, strict=True)
    )


Grid = tuple[tuple[Node, ...], ...]


def _grid(node: Node) -> Grid | None:
    if isinstance(node, Matrix):
        return node.rows
    if isinstance(node, Seq) and node.kind in ("tuple", "bracket", "vector"):
        rows = [item.items if isinstance(item, Seq) else (item.low, item.high) if isinstance(item, Interval) else None for item in node.items]
        if rows and all(row is not None for row in rows):
            return tuple(row for row in rows if row is not None)
        return tuple((item,) for item in node.items)
    if isinstance(node, Interval) and node.closed == (True, True):
        return _grid(Seq("bracket", (node.low, node.high)))
    return None


def _flat(grid: Grid | None) -> Grid | None:
    if grid is None or (len(grid) > 1 and len(grid[0]) > 1):
        return grid
    return tuple((entry,) for row in grid for entry in row)


# ---------------------------------------------------------------- sets and sequences


def _is_set(node: Node) -> bool:
    return isinstance(node, Interval) or (isinstance(node, Call) and node.name in _SET_CALLS) or (isinstance(node, Const) and node.name in _NAMED_SETS)


def _same_pieces(gold: Node, answer: Node) -> bool:
    try:
        return same_pieces(lay_out(gold), lay_out(answer))
    except NotASetError:
        return False


def _same_sets(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    if isinstance(gold, Interval) and isinstance(answer, Interval):
        ends = gold.closed == answer.closed or _same_pieces(gold, answer)
        return "interval" if ends and same(gold.low, answer.low, rules) and same(gold.high, answer.high, rules) else None
    if _same_pieces(gold, answer):
        return "interval"
    if isinstance(gold, Call) and isinstance(answer, Call) and gold.name == answer.name and len(gold.args) == len(answer.args):
        return "set" if _matched(_flattened(gold), _flattened(answer), rules) else None
    if isinstance(gold, Interval) and gold.closed == (True, True) and isinstance(answer, Seq) and answer.kind == "bracket":
        return None
    if isinstance(gold, Call) and gold.name in ("or", "and", "both") and isinstance(answer, Seq):
        return "list" if _matched(gold.args, answer.items, rules) else None
    if isinstance(answer, Call) and answer.name in ("or", "and", "both") and isinstance(gold, Seq):
        return "list" if _matched(gold.items, answer.args, rules) else None
    return None


def _flattened(node: Call) -> tuple[Node, ...]:
    parts: list[Node] = []
    for arg in node.args:
        parts += _flattened(arg) if isinstance(arg, Call) and arg.name == node.name else [arg]
    return tuple(parts)


def _same_sequence(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    first, second = _as_sequence(gold), _as_sequence(answer)
    if first is None or second is None:
        return False
    if len(first.items) > MAX_ITEMS or len(second.items) > MAX_ITEMS:
        raise Undecided(f"a list of more than {MAX_ITEMS}")
    kinds = {first.kind, second.kind}
    if kinds == {"set", "tuple"} or kinds == {"set", "vector"}:
        return False
    if first.kind == "set" or second.kind == "set":
        return _matched(_distinct(first, rules), _distinct(second, rules), rules)
    ordered = bool(kinds & {"tuple", "vector", "bracket"}) or rules.ordered_lists or Const("ellipsis") in (*walk(gold), *walk(answer))
    if len(first.items) != len(second.items):
        points = not ordered and all(isinstance(item, Seq) for item in (*first.items, *second.items))
        return points and _matched(_distinct(first, rules), _distinct(second, rules), rules)
    if _ordered(first.items, second.items, rules):
        return True
    return not ordered and _matched(first.items, second.items, rules)


def _ordered(gold: tuple[Node, ...], answer: tuple[Node, ...], rules: GraderConfig) -> bool:
    return len(gold) == len(answer) and all(same(a, b, rules) is not None for a, b in zip(gold, answer, strict=True))


def _as_sequence(node: Node) -> Seq | None:
    """A list as its values: a = 4, -8 holds 4 and -8."""
    if isinstance(node, Seq):
        if len(node.items) == 1 and isinstance(node.items[0], Seq):
            return node.items[0]
        head = node.items[0] if node.items else None
        if isinstance(head, Relation) and not any(isinstance(item, Relation) for item in node.items[1:]):
            named = named_value(head)
            if named is not None:
                return Seq(node.kind, (named[1], *node.items[1:]))
        return node
    if isinstance(node, Interval) and node.closed == (True, True):
        return Seq("bracket", (node.low, node.high))
    return Seq("list", (node,))


def _distinct(node: Seq, rules: GraderConfig) -> tuple[Node, ...]:
    kept: list[Node] = []
    for item in node.items:
        if not any(same(item, other, rules) for other in kept):
            kept.append(item)
    return tuple(kept)


def _matched(gold: tuple[Node, ...], answer: tuple[Node, ...], rules: GraderConfig) -> bool:
    """Whether the values can be paired off, in any order."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for item in gold:
        for index, other in enumerate(left):
            if same(item, other, rules) is not None:
                del left[index]
                break
        else:
            return False
    return True

