"""Whether two trees are the same answer. The types decide which question that is.

`same` returns the name of the layer that found them equal, or none. It looks through what carries no meaning (names in
front of values, units one side left out, brackets around a list) and never through what does (order in a tuple, open or
closed ends, the number of values).
"""

from __future__ import annotations

from dsm.answers.equality import same_value
from dsm.answers.matrices import carried_out, same_matrix
from dsm.answers.nodes import (
    Based,
    Call,
    Clock,
    Const,
    Interval,
    Matrix,
    Node,
    Relation,
    Seq,
    Sym,
    children,
    number,
    rebuild,
    replace,
    symbols,
    walk,
)
from dsm.answers.quantities import is_quantity, is_ratio, same_clock, same_in_base, same_quantity, same_ratio
from dsm.answers.realsets import NotASetError, lay_out, same_pieces
from dsm.answers.relations import named_value, same_statement
from dsm.answers.sequences import matched, same_sequence
from dsm.config.answers import GraderConfig

_OPERATORS = frozenset(("union", "intersection", "difference", "or", "and", "both"))
_NAMED_SETS = frozenset(("reals", "integers", "naturals", "rationals", "complexes", "empty"))


def same(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    """The layer that finds the two equal ("value", "interval", "set", ...), or none if they are not.

    Raises:
        Undecided: if a value is over a limit, or has no numeric meaning, so that neither can be said.
    """
    if gold == answer:
        return "tree"
    gold, answer = _both_signs(gold), _both_signs(answer)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _same_relations(gold, answer, rules)
    if _is_residue(gold) or _is_residue(answer):
        return _same_residues(gold, answer, rules)
    if isinstance(gold, Clock) or isinstance(answer, Clock):
        return "clock" if same_clock(gold, answer, rules) else None
    if isinstance(gold, Based) or isinstance(answer, Based):
        return "base" if same_in_base(gold, answer) else None
    if is_quantity(gold) or is_quantity(answer):
        return same_quantity(gold, answer, lambda a, b: same(a, b, rules), rules)
    gold, answer = carried_out(gold), carried_out(answer)

    def equal(first: Node, second: Node) -> bool:
        return same(first, second, rules) is not None

    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return "matrix" if same_matrix(gold, answer, equal) else None
    if _is_set(gold) or _is_set(answer):
        return _same_sets(gold, answer, rules)
    if isinstance(gold, Seq) or isinstance(answer, Seq):
        return "list" if same_sequence(gold, answer, equal, rules.ordered_lists) else None
    if is_ratio(gold) or is_ratio(answer):
        return "ratio" if same_ratio(gold, answer, rules) else None
    return "value" if same_value(gold, answer, rules) or _scaled(gold, answer, rules) else None


def _scaled(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    """0.28 for 28 and 28 for 0.28, where the rules allow it."""
    if not rules.percent_scale or symbols(gold) or symbols(answer):
        return False
    hundred = number(100)
    return same_value(Call("*", (gold, hundred)), answer, rules) or same_value(
        gold, Call("*", (answer, hundred)), rules
    )


# ---------------------------------------------------------------- plus-minus


def _both_signs(node: Node) -> Node:
    """Plus-minus, written out: 1 ± x is the list 1 + x, 1 - x."""
    if isinstance(node, Seq) and node.kind in ("list", "set", "group"):
        items = tuple(variant for item in node.items for variant in _variants(item))
        return Seq(node.kind, items) if len(items) > len(node.items) else node
    variants = _variants(node)
    return node if len(variants) == 1 else Seq("list", variants)


def _variants(node: Node) -> tuple[Node, ...]:
    if not any(isinstance(part, Call) and part.name in ("pm", "mp") for part in walk(node)):
        return (node,)
    return _with_sign(node, plus=True), _with_sign(node, plus=False)


def _with_sign(node: Node, plus: bool) -> Node:
    parts = tuple(_with_sign(part, plus) for part in children(node))
    if isinstance(node, Call) and node.name in ("pm", "mp"):
        last = parts[-1] if plus == (node.name == "pm") else Call("neg", (parts[-1],))
        return last if len(parts) == 1 else Call("+", (parts[0], last))
    return rebuild(node, parts) if parts else node


# ---------------------------------------------------------------- relations


def _same_relations(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    ours, theirs = (named_value(node) if isinstance(node, Relation) else None for node in (gold, answer))
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        if ours is not None and theirs is not None:
            renamed = _renamed(ours[0], theirs)
            if renamed is not None and (layer := same(ours[1], renamed, rules)) is not None:
                return layer
        if same_statement(gold, answer):
            return "equation" if "=" in gold.ops else "inequality"
    elif ours is not None:
        return same(ours[1], answer, rules)
    elif theirs is not None:
        return same(gold, theirs[1], rules)
    return "interval" if _same_pieces(gold, answer) else None


def _renamed(name: Node, named: tuple[Node, Node]) -> Node | None:
    """The value of the other side if its name means the same: x and x_1, W(n) and W(x), AB and BA. Else none."""
    other, value = named
    if name == other:
        return value
    if isinstance(name, Sym) and isinstance(other, Sym):
        (stem, _, index), (other_stem, _, other_index) = name.name.partition("_"), other.name.partition("_")
        return value if stem == other_stem and not (index and other_index) else None
    if not (
        isinstance(name, Call)
        and isinstance(other, Call)
        and name.name == other.name
        and len(name.args) == len(other.args)
    ):
        return None
    if name.name.startswith("@") and all(isinstance(arg, Sym) for arg in (*name.args, *other.args)):
        for old, new in zip(other.args, name.args, strict=True):
            value = replace(value, old, new)
        return value
    return value if name.name == "*" and sorted(map(str, name.args)) == sorted(map(str, other.args)) else None


def _is_residue(node: Node) -> bool:
    return isinstance(node, Call) and node.name == "pmod"


def _same_residues(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    """x ≡ 3 (mod 5) and x ≡ 8 (mod 5); 3 (mod 5) and 3."""
    (residue, modulus), (other, other_modulus) = _residue(gold), _residue(answer)
    if modulus is None or other_modulus is None:
        return same(residue, other, rules)
    if not same_value(modulus, other_modulus, rules):
        return None
    difference = Call("mod", (Call("+", (residue, Call("neg", (other,)))), modulus))
    return "residue" if same_value(difference, number(0), rules) else None


def _residue(node: Node) -> tuple[Node, Node | None]:
    match node:
        case Call("pmod", (Relation(_, sides), modulus)):
            return sides[-1], modulus
        case Call("pmod", (residue, modulus)):
            return residue, modulus
    return node, None


# ---------------------------------------------------------------- sets of reals


def _is_set(node: Node) -> bool:
    if isinstance(node, Call):
        return node.name in _OPERATORS
    return isinstance(node, Interval) or (isinstance(node, Const) and node.name in _NAMED_SETS)


def _same_pieces(gold: Node, answer: Node) -> bool:
    try:
        return same_pieces(lay_out(gold), lay_out(answer))
    except NotASetError:
        return False


def _named_set(node: Node) -> str | None:
    """R for the real numbers, written with any letter shape."""
    match node:
        case Const(name) if name in _NAMED_SETS:
            return name
        case Sym("R" | "Z" | "N" | "Q" | "C" as letter):
            return {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes"}[letter]
    return None


def _same_sets(gold: Node, answer: Node, rules: GraderConfig) -> str | None:
    def equal(first: Node, second: Node) -> bool:
        return same(first, second, rules) is not None

    if isinstance(gold, Interval) and isinstance(answer, Interval):
        closed = gold.closed == answer.closed or _same_pieces(gold, answer)
        return "interval" if closed and equal(gold.low, answer.low) and equal(gold.high, answer.high) else None
    if _same_pieces(gold, answer) or _named_set(gold) == _named_set(answer) is not None:
        return "interval"
    parts = [_parts(node) for node in (gold, answer)]
    if (
        parts[0] is None
        or parts[1] is None
        or (parts[0][0] != parts[1][0] and "list" not in (parts[0][0], parts[1][0]))
    ):
        return None
    return "set" if matched(parts[0][1], parts[1][1], equal) else None


def _parts(node: Node) -> tuple[str, tuple[Node, ...]] | None:
    """(operator, operands) of a union, of statements joined by `or`, of a list; nested ones flattened."""
    if isinstance(node, Seq) and node.kind == "list":
        return "list", node.items
    if not isinstance(node, Call):
        return None
    operands: list[Node] = []
    for arg in node.args:
        operands += _parts(arg)[1] if isinstance(arg, Call) and arg.name == node.name else [arg]  # type: ignore[index]
    return "list" if node.name in ("or", "and", "both") else node.name, tuple(operands)
