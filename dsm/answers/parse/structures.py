"""Structures: brackets, relations, quantities and lists - the grammar from the top of an answer down to expressions."""

from __future__ import annotations

import re

from dsm.answers.nodes import (
    Call,
    Clock,
    Const,
    Interval,
    Node,
    Num,
    ParseError,
    Quantity,
    Relation,
    Seq,
    Sym,
    number,
)
from dsm.answers.parse.calls import CallParser
from dsm.answers.parse.lexer import Token
from dsm.answers.parse.vocabulary import CURRENCIES, FILLERS, SCALE_WORDS
from dsm.answers.units import parse_unit

_CLOCK = re.compile(r"(?:[01]?\d|2[0-4])(?::[0-5]\d){0,2}")
_INFIX = {"over": "/", "choose": "binomial"}
_INEQUALITIES = frozenset(("<", "<=", ">", ">=", "!="))


class Parser(CallParser):
    """`answer` is the entry; everything else is reached from there."""

    def answer(self) -> Node:
        """Values that commas, semicolons, `and`, `or` separate; a single one is itself."""
        node = self.alternatives()
        if self.next.kind != "end":
            raise ParseError(f"{self.next.text} at the end")
        return node

    def alternatives(self) -> Node:
        items: list[Node] = []
        separators: list[str] = []
        while True:
            while self.next.kind == "sep" or (items and (self.at("cmd", "\\") or self.at("op", "&", "|"))):
                token = self.take()
                separators.append({"&": "and", "|": "or"}.get(token.text, token.text))
            if self.next.kind == "end":
                break
            items.append(self.statement())
            if self.next.kind not in ("sep", "end") and not self.at("cmd", "\\") and not self.joined(items[-1]):
                raise ParseError(f"{self.next.text} between values")
        if not items:
            raise ParseError("nothing in it")
        if len(items) == 1:
            return items[0]
        if all(_is_inequality(item) for item in items):
            return Call("or" if "or" in separators else "and" if "and" in separators else "both", tuple(items))
        if "or" in separators and any(_is_inequality(item) or _is_real_set(item) for item in items):
            return Call("or", tuple(items))
        if "," in separators and {";", "and", "or"} & set(separators):
            return self.regrouped(items, separators)
        return Seq("list", tuple(items))

    def joined(self, last: Node) -> bool:
        """(x > 1) & (x < 3), as Python and SymPy write it."""
        return self.at("op", "&", "|") and (_is_inequality(last) or _is_real_set(last))

    @staticmethod
    def regrouped(items: list[Node], separators: list[str]) -> Node:
        """p = 5, q = 2; p = 7, q = 2: what commas join are tuples, if semicolons or words keep equations apart."""
        flat = Seq("list", tuple(items))
        if len(separators) != len(items) - 1:
            return flat
        groups: list[list[Node]] = [[items[0]]]
        for separator, item in zip(separators, items[1:], strict=True):
            if separator == ",":
                groups[-1].append(item)
            else:
                groups.append([item])
        if len({len(group) for group in groups}) > 1 or not (
            ";" in separators or all(isinstance(item, Relation) for item in items)
        ):
            return flat
        return Seq("list", tuple(Seq("tuple", tuple(group)) for group in groups))

    # ------------------------------------------------ one statement: a relation between quantities

    def statement(self) -> Node:
        while self.at("rel", "=", "~", "=>", "->") or (self.next.kind == "word" and self.next.text.lower() in FILLERS):
            self.take()
        sides = [self.quantity()]
        ops: list[str] = []
        while self.next.kind == "rel" and self.next.text not in ("'", "''"):
            ops.append(self.take().text)
            while self.next.kind == "word" and self.next.text.lower() in FILLERS:
                self.take()
            sides.append(self.quantity())
        node: Node = Relation(tuple(ops), tuple(sides)) if ops else sides[0]
        if self.accept("cmd", "pmod") or (self.at("op", "(") and self.peek(1).text == "mod" and self.accept("op", "(")):
            closing = self.accept("func", "mod")
            modulus = self.expression() if closing else self.argument()
            if closing:
                self.expect(")")
            node = Call("pmod", (node, modulus))
        return node

    def quantity(self) -> Node:
        """An expression, a ratio, a time of day; currency in front of it, words behind it."""
        if self.next.kind == "word":
            return self.worded()
        currency = self.take().text if self.next.kind == "cur" else None
        if (time := self.clock()) is not None:
            return time
        negated = currency is None and self.at("op", "-") and self.peek(1).kind == "cur"
        if negated:
            self.take()
            currency = self.take().text
        node = self.expression()
        if negated:
            node = Call("neg", (node,))
        if self.at("op", ":") and not self.bars:
            node = self.ratio(node)
        unit = self.unit()
        if currency is None and self.next.kind == "cur":
            currency = self.take().text
        if unit and isinstance(node, Num | Call) and (scale := SCALE_WORDS.get(unit.split()[0])):
            node = Call("*", (node, number(scale)))
            unit = " ".join(unit.split()[1:])
        unit = unit or currency or ""
        return self.compound(Quantity(node, unit)) if unit else node

    def compound(self, first: Quantity) -> Quantity:
        """1 hour 30 minutes, 5 feet 6 inches: the sum, in the last unit."""
        measure = parse_unit(first.unit)
        if self.next.kind != "num" or not measure.dimensions:
            return first
        value, unit = self.expression(), self.unit()
        last = parse_unit(unit)
        if last.dimensions != measure.dimensions or last.factor >= measure.factor:
            raise ParseError("a number behind a unit")
        converted = Call("*", (first.value, number(measure.factor / last.factor)))
        return self.compound(Quantity(Call("+", (converted, value)), unit))

    def worded(self) -> Node:
        """`area = 5`: a name in words. Any other text that starts with a word is no mathematics."""
        words = []
        while self.next.kind in ("word", "name", "op") and self.next.text not in ("(", "[", "{", "\\{", "|"):
            words.append(self.take().text)
        if self.next.kind == "rel" or self.accept("op", ":"):
            return Sym(" ".join(words).lower())
        if self.next.kind == "num" and len(words) == 1 and words[0] in CURRENCIES:
            return Quantity(self.expression(), CURRENCIES[words[0]])
        raise ParseError("words")

    def ratio(self, first: Node) -> Node:
        parts = [first]
        while self.accept("op", ":"):
            parts.append(self.expression())
        return Call("ratio", tuple(parts))

    def unit(self) -> str:
        """The words behind a value, with their exponents, slashes and brackets: "cm^2", "km / h", "apples ( red )"."""
        parts: list[str] = []
        if self.at("op", "/") and self.peek(1).kind in ("word", "name"):
            parts.append(self.take().text)
        while True:
            token = self.next
            if (
                token.kind == "word"
                or (parts and token.kind in ("name", "func") and token.text.isalpha())
                or (self.at("op", "(") and (parts or self.peek(1).kind == "word"))
            ):
                parts.append(self.take().text)
            elif not parts:
                return ""
            elif self.at("op", "^"):
                parts[-1] += self.unit_exponent()
            elif token.kind == "num" and token.text in ("2", "3") and parts[-1].isalpha():
                parts[-1] += f"^{self.take().text}"
            elif (self.at("op", "/", "*") or self.at("cmd", "cdot")) and self.peek(1).kind in ("word", "name"):
                parts.append("/" if self.take().text == "/" else "*")
            elif self.at("op", ".", "-", "'") or (self.at("op", ")") and "(" in parts):
                parts.append(self.take().text)
            else:
                return " ".join(parts)

    def unit_exponent(self) -> str:
        self.take()
        exponent = self.exponent()
        if not isinstance(exponent, Num) or exponent.value.denominator != 1:
            raise ParseError("a unit with such an exponent")
        return f"^{exponent.value}"

    def clock(self) -> Node | None:
        """3:30, 15:30:00, 3:30 pm, 3 p.m."""
        if self.next.kind != "num" or self.peek(1).kind in ("end", "sep"):
            return None
        numbers, after = [self.next.text], 1
        while len(numbers) < 3 and self.peek(after).text == ":" and self.peek(after + 1).kind == "num":
            numbers.append(self.peek(after + 1).text)
            after += 2
        half, length = _half([self.peek(after + ahead) for ahead in range(5)])
        if not _CLOCK.fullmatch(":".join(numbers)) or (
            half is None and (len(numbers) == 1 or self.peek(after).text == ":")
        ):
            return None
        self.position += after + length
        hour, minute, second = (int(text) for text in [*numbers, "0", "0"][:3])
        return Clock(hour * 3600 + minute * 60 + second, half)

    # ------------------------------------------------ brackets

    def group(self) -> Node:
        """{...}: one expression, or several that braces keep together."""
        self.expect("{")
        return self.nested(lambda: self.group_content("}"))

    def group_content(self, closing: str) -> Node:
        bars, self.bars = self.bars, []
        items = self.items(closing)
        self.bars = bars
        return items[0] if len(items) == 1 else Seq("group", items)

    def items(self, *closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self.at("op", *closing):
            if self.next.kind == "end":
                raise ParseError("an unclosed bracket")
            items.append(self.nested(self.statement))
            if self.at("cmd", *_INFIX):
                items[-1] = Call(_INFIX[self.take().text], (items[-1], self.nested(self.expression)))
            if not self.accept("sep") and not self.at("op", *closing):
                raise ParseError(f"{self.next.text} in brackets")
        self.take()
        return tuple(items)

    def parenthesis(self) -> Node:
        self.expect("(")
        return self.bracketed("(")

    def bracketed(self, opening: str) -> Node:
        if opening in ("|", "\\|"):
            return self.absolute(opening)
        if opening == "{":
            return self.group_content("}")
        bars, self.bars = self.bars, []
        try:
            if opening == "\\{":
                return self.braces()
            if opening in ("(", "[", "]"):
                return self.interval_or_tuple(opening)
        finally:
            self.bars = bars
        raise ParseError(f"{opening} where a value should stand")

    def interval_or_tuple(self, opening: str) -> Node:
        """(a, b, c), [a, b), and ]a, b[ with its brackets turned outwards."""
        start = self.position
        try:
            items, closing = self.delimited(outward=opening == "]")
        except ParseError:
            if opening != "[":
                raise
            self.position = start
            items, closing = self.delimited(outward=True)
        if len(items) == 2 and not (opening == "(" and closing == ")"):
            return Interval(items[0], items[1], (opening == "[", closing == "]"))
        if opening == "(" and closing == ")":
            return items[0] if len(items) == 1 else Seq("tuple", items)
        if opening == "[" and closing == "]":
            return items[0] if len(items) == 1 and not isinstance(items[0], Seq | Interval) else Seq("bracket", items)
        raise ParseError("brackets that do not match")

    def delimited(self, outward: bool) -> tuple[tuple[Node, ...], str]:
        """The items up to the bracket that closes, and that bracket; `outward`: [ closes too."""
        if self.at("op", ")", "]"):
            return (), self.take().text
        closers = (")", "]", "[") if outward else (")", "]")
        outer, self.outward = self.outward, outward
        items = [self.nested(self.statement)]
        while not self.at("op", *closers):
            if not self.accept("sep"):
                raise ParseError(f"{self.next.text or 'the end'} in brackets")
            if not self.at("op", *closers):
                items.append(self.nested(self.statement))
        self.outward = outer
        return tuple(items), self.take().text

    def braces(self) -> Node:
        """\\{1, 2\\}, and \\{x | x > 1\\}, which is its condition."""
        if self.accept("op", "\\}"):
            return Const("empty")
        self.bars = ["set"]
        first = self.nested(self.set_head)
        if self.accept("op", "|", ":") or self.accept("rel", "|"):
            condition = self.items("\\}")
            return condition[0] if len(condition) == 1 else Call("and", condition)
        items = [first]
        while self.accept("sep"):
            items.append(self.nested(self.statement))
        self.expect("\\}")
        return Seq("set", tuple(items))

    def set_head(self) -> Node:
        node = self.expression()
        if self.next.kind == "rel":
            ops, sides = [self.take().text], [node, self.expression()]
            while self.next.kind == "rel":
                ops.append(self.take().text)
                sides.append(self.expression())
            return Relation(tuple(ops), tuple(sides))
        unit = self.unit()
        return Quantity(node, unit) if unit else node

    def absolute(self, bar: str) -> Node:
        self.bars.append(bar)
        inner = self.expression()
        self.bars.pop()
        self.expect(bar)
        return Call("abs", (inner,))

    def angle_brackets(self) -> Node:
        items: list[Node] = []
        while not self.accept("cmd", "rangle"):
            if self.next.kind == "end":
                raise ParseError("an unclosed bracket")
            items.append(self.nested(self.statement))
            if not self.accept("sep") and not self.at("cmd", "rangle"):
                raise ParseError(f"{self.next.text} in brackets")
        return Seq("vector", tuple(items))


def _half(tokens: list[Token]) -> tuple[str | None, int]:
    """am or pm in the tokens ahead (a.m. is four of them), and how many tokens spell it."""
    text = ""
    for count, token in enumerate(tokens, start=1):
        if token.kind not in ("word", "name", "op"):
            break
        text += token.text.lower().replace(".", "").replace(" ", "")
        if text in ("am", "pm"):
            dot = count < len(tokens) and tokens[count].text == "."
            return text, count + dot
        if text not in ("a", "p"):
            break
    return None, 0


def _is_inequality(node: Node) -> bool:
    return isinstance(node, Relation) and any(op in _INEQUALITIES for op in node.ops)


def _is_real_set(node: Node) -> bool:
    return isinstance(node, Interval) or (isinstance(node, Call) and node.name in ("union", "intersection"))
