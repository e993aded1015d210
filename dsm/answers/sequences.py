"""Lists, tuples and finite sets: what order and repetition mean in each, and which brackets may be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dsm.answers.equality import Undecided
from dsm.answers.nodes import Const, Interval, Node, Relation, Seq, Sym, replace, symbols, walk
from dsm.answers.relations import named_value

MAX_ITEMS = 60
Equal = Callable[[Node, Node], bool]
_ORDERED = frozenset(("tuple", "vector", "bracket"))


def same_sequence(gold: Node, answer: Node, equal: Equal, ordered_lists: bool) -> bool:
    """Whether two sequences hold the same values: a tuple in order, a set in any, a bare list as the rules say.

    Raises:
        Undecided: if one has more than 60 values.
    """
    first, second = (_without_parameters(_as_sequence(node)) for node in (gold, answer))
    if max(len(first.items), len(second.items)) > MAX_ITEMS:
        raise Undecided(f"a list of more than {MAX_ITEMS}")
    kinds = {first.kind, second.kind}
    if "set" in kinds:
        if kinds & {"tuple", "vector"}:
            return False
        return matched(_distinct(first.items, equal), _distinct(second.items, equal), equal)
    second = _with_parameters_of(first, second)
    if len(first.items) == len(second.items) and _in_order(first.items, second.items, equal):
        return True
    if (
        kinds & _ORDERED
        or ordered_lists
        or _one_is_named(first, second)
        or Const("ellipsis") in (*walk(first), *walk(second))
    ):
        return False
    if len(first.items) == len(second.items):
        return matched(first.items, second.items, equal)
    if all(isinstance(item, Seq) for item in (*first.items, *second.items)) or 1 in (
        len(first.items),
        len(second.items),
    ):
        return matched(
            _distinct(first.items, equal), _distinct(second.items, equal), equal
        )  # points, or one value twice
    return False


def matched(gold: Sequence[Node], answer: Sequence[Node], equal: Equal) -> bool:
    """Whether the values can be paired off, in any order."""
    if len(gold) != len(answer):
        return False
    left = list(answer)
    for item in gold:
        partner = next((index for index, other in enumerate(left) if equal(item, other)), None)
        if partner is None:
            return False
        del left[partner]
    return True


def _in_order(gold: Sequence[Node], answer: Sequence[Node], equal: Equal) -> bool:
    return all(equal(a, b) for a, b in zip(gold, answer, strict=True))


def _distinct(items: Sequence[Node], equal: Equal) -> list[Node]:
    kept: list[Node] = []
    for item in items:
        if not any(equal(item, other) for other in kept):
            kept.append(item)
    return kept


def _as_sequence(node: Node) -> Seq:
    """A list as its values: `a = 4, -8` holds 4 and -8."""
    if isinstance(node, Interval) and node.closed == (True, True):
        return Seq("bracket", (node.low, node.high))
    if not isinstance(node, Seq):
        return Seq("list", (node,))
    if len(node.items) == 1 and isinstance(node.items[0], Seq):
        return node.items[0]
    if (
        node.items
        and isinstance(node.items[0], Relation)
        and not any(isinstance(item, Relation) for item in node.items[1:])
    ):
        named = named_value(node.items[0])
        if named is not None:
            return Seq(node.kind, (named[1], *node.items[1:]))
    return node


def _one_is_named(first: Seq, second: Seq) -> bool:
    """Whether one side gives values to different names, a = 1, b = 2, and the other to none: the order then tells."""
    named = [
        [named_value(item) if isinstance(item, Relation) else None for item in side.items] for side in (first, second)
    ]
    names = [{str(pair[0]).split("_")[0] for pair in side if pair is not None} for side in named]
    return (len(names[0]) > 1 and not names[1]) or (len(names[1]) > 1 and not names[0])


# ---------------------------------------------------------------- x = pi/4 + k pi, k an integer


def _parameter(item: Node) -> Sym | None:
    """k of a clause `k in Z` that stands in a list."""
    match item:
        case Relation(("in",), (Sym() as name, Const("integers" | "naturals"))):
            return name
    return None


def _without_parameters(node: Seq) -> Seq:
    """The list without clauses that only say what a letter in the rest runs over."""
    if node.kind != "list":
        return node
    kept = tuple(item for item in node.items if _parameter(item) is None)
    return Seq("list", kept) if kept and len(kept) < len(node.items) else node


def _with_parameters_of(gold: Seq, answer: Seq) -> Seq:
    """The answer with its integer parameter renamed to the gold's: n pi for k pi."""
    ours, theirs = (sorted(symbols(side) & set("kmnltN")) for side in (gold, answer))
    if len(ours) == len(theirs) == 1 and ours != theirs and symbols(gold) - set(ours) == symbols(answer) - set(theirs):
        in_multiple = Const("pi") in walk(gold) and Const("pi") in walk(answer)
        return replace(answer, Sym(theirs[0]), Sym(ours[0])) if in_multiple else answer  # type: ignore[return-value]
    return answer
