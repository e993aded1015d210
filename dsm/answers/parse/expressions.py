"""Expressions: from sums down to atoms, by recursive descent over the tokens.

Juxtaposition multiplies; a function without parentheses takes the product that follows (sin 2x); a whole number right
in front of a numeric fraction makes a mixed number. Nothing is evaluated here.
"""

from __future__ import annotations

from dsm.answers.nodes import (
    MAX_DEPTH,
    Call,
    Const,
    Interval,
    Node,
    Num,
    ParseError,
    Relation,
    Seq,
    Sym,
    negative,
    number,
)  # fmt: skip
from dsm.answers.parse.lexer import END, Token
from dsm.answers.parse.literals import read_number, read_repeating
from dsm.answers.parse.vocabulary import ACCENTS

_SET_OPERATORS = {"cup": "union", "cap": "intersection", "setminus": "difference", "bigcup": "union"}


class ExpressionParser:
    """The part of the grammar below relations and lists; `structures.Parser` adds those."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0
        self.bars: list[str] = []
        self.outward = False

    # ------------------------------------------------ tokens

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def peek(self, ahead: int) -> Token:
        position = self.position + ahead
        return self.tokens[position] if position < len(self.tokens) else END

    def take(self) -> Token:
        token = self.tokens[self.position]
        self.position += token is not END
        return token

    def at(self, kind: str, *texts: str) -> bool:
        token = self.tokens[self.position]
        return token.kind == kind and (not texts or token.text in texts)

    def accept(self, kind: str, *texts: str) -> bool:
        found = self.at(kind, *texts)
        self.position += found
        return found

    def expect(self, text: str) -> None:
        if not self.accept("op", text):
            raise ParseError(f"expected {text} where {self.next.text or 'the end'} stands")

    # ------------------------------------------------ sums and set operations

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH}")
        left = self.sum()
        while True:
            if self.at("cmd", *_SET_OPERATORS):
                left = Call(_SET_OPERATORS[self.take().text], (left, self.sum()))
            elif self.at("name", "U") and isinstance(left, Seq | Interval | Call):
                self.take()
                left = Call("union", (left, self.sum()))
            else:
                break
        self.depth -= 1
        return left

    def sum(self) -> Node:
        terms: list[Node] = []
        while True:
            if self.at("op", "+", "-") or self.at("cmd", "pm", "mp"):
                sign = self.take().text
            elif terms:
                break
            else:
                sign = "+"
            term = self.signed_term()
            if sign in ("pm", "mp"):
                terms = (
                    [Call(sign, (terms[0] if len(terms) == 1 else Call("+", tuple(terms)), term))]
                    if terms
                    else [Call(sign, (term,))]
                )
            else:
                terms.append(term if sign == "+" else negative(term))
        return terms[0] if len(terms) == 1 else Call("+", tuple(terms))

    def signed_term(self) -> Node:
        """A term whose own sign follows the sign of the sum: 3 + -2."""
        if self.at("op", "-", "+") or self.at("cmd", "pm", "mp"):
            sign = self.take().text
            term = self.nested(self.signed_term)
            return negative(term) if sign == "-" else term if sign == "+" else Call(sign, (term,))
        return self.term()

    def nested(self, parse) -> Node:  # type: ignore[no-untyped-def]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ParseError(f"nested deeper than {MAX_DEPTH}")
        node: Node = parse()
        self.depth -= 1
        return node

    # ------------------------------------------------ products

    def term(self) -> Node:
        mixed = self.mixed_number()
        left = self.power() if mixed is None else self.postfix(mixed)
        while True:
            if self.at("op", "*") or self.at("cmd", "cdot", "times", "bullet"):
                self.take()
                left = Call("*", (left, self.factor()))
            elif self.at("op", "/") or self.at("cmd", "div"):
                self.take()
                left = Call("/", (left, self.factor()))
            elif self.at("cmd", "bmod") or (self.at("func", "mod") and not self.bracket_follows(1)):
                self.take()
                left = Call("mod", (left, self.factor()))
            elif self.starts_factor(left):
                right = self.power()
                left = Call("*", (*left.args, right) if isinstance(left, Call) and left.name == "*" else (left, right))
            else:
                return left

    def factor(self) -> Node:
        if self.at("op", "-", "+") or self.at("cmd", "pm", "mp"):
            return self.nested(self.signed_factor)
        return self.power()

    def signed_factor(self) -> Node:
        sign = self.take().text
        node = self.factor()
        return negative(node) if sign == "-" else node if sign == "+" else Call(sign, (node,))

    def mixed_number(self) -> Node | None:
        """2\\frac{1}{2}, 2 1/2: the sum, where all three are whole numbers and the fraction is below one."""
        if not (self.at("num") and self.next.text.isdigit()):
            return None
        whole, start = int(self.next.text[:2000]), self.position
        if self.peek(1) == Token("cmd", "frac", self.peek(1).space):
            self.position += 2
            try:
                top, bottom = self.argument(), self.argument()
            except ParseError:
                self.position = start
                return None
        elif (
            self.peek(1).kind == "num"
            and self.peek(1).space
            and self.peek(2).text == "/"
            and self.peek(3).kind == "num"
        ):
            if not (self.peek(1).text.isdigit() and self.peek(3).text.isdigit()):
                return None
            top, bottom = read_number(self.peek(1).text), read_number(self.peek(3).text)
            self.position += 4
        else:
            return None
        proper = (
            isinstance(top, Num) and isinstance(bottom, Num) and top.digits is None and bottom.digits is None
            and bottom.value.denominator == 1 and top.value.denominator == 1 and 0 < top.value < bottom.value
        )  # fmt: skip
        if not proper or self.at("op", "^"):
            self.position = start
            return None
        assert isinstance(top, Num)
        assert isinstance(bottom, Num)
        return number(whole + top.value / bottom.value)

    def starts_factor(self, left: Node) -> bool:
        """Whether a factor follows without a sign."""
        token = self.next
        if isinstance(left, Relation):
            return False
        if token.kind in ("name", "const", "func"):
            return not (token.text == "U" and isinstance(left, Seq | Interval))
        if token.kind in ("num", "repeating"):
            return not isinstance(left, Num) and not (token.space and isinstance(left, Call) and left.name == "/")
        if token.kind == "cmd":
            return (
                token.text
                in ("frac", "sqrt", "cbrt", "binom", "begin", "lfloor", "lceil", "sum", "prod", "angle", "triangle")
                or token.text in ACCENTS
            )
        if token.kind == "op":
            if token.text == "(" and (self.peek(1).text == "mod" or self.peek(1).kind == "word"):
                return False
            if token.text in ("(", "{", "\\{") or (token.text == "[" and not self.outward):
                return True
            return token.text in ("|", "\\|") and not self.bars
        return False

    # ------------------------------------------------ powers and what stands behind an atom

    def power(self) -> Node:
        base = self.postfix(self.atom())
        if self.accept("op", "^"):
            base = Call("^", (base, self.nested(self.exponent)))
            base = self.postfix(base)
            while self.accept("op", "^"):
                base = Call("^", (base, self.nested(self.exponent)))
        return base

    def exponent(self) -> Node:
        if self.at("op", "-", "+"):
            sign = self.take().text
            node = self.nested(self.exponent)
            return negative(node) if sign == "-" else node
        if self.at("op", "{"):
            return self.group()
        return self.power()

    def postfix(self, node: Node) -> Node:
        while True:
            if self.at("op", "!") and self.peek(1).text != "=":
                self.take()
                node = Call("factorial2" if self.accept("op", "!") else "factorial", (node,))
            elif self.accept("op", "%"):
                node = Call("pct", (node,))
            elif self.accept("cmd", "degree"):
                node = self.degrees(node)
            elif self.accept("cmd", "permil"):
                node = Call("/", (node, number(1000)))
            elif self.at("op", "_") and self.raw_digits(node):
                node = self.based(self.peek(-2).text)
            elif self.at("op", "_") and isinstance(node, Sym | Const):
                self.take()
                node = self.subscripted(node)
            elif self.at("rel", "'", "''") or self.at("op", "'"):
                node = Sym(node.name + self.take().text) if isinstance(node, Sym) else self.refuse("a prime")
            else:
                return node

    def refuse(self, what: str) -> Node:
        raise ParseError(f"{what} where none can stand")

    # ------------------------------------------------ atoms

    def atom(self) -> Node:
        token = self.take()
        match token.kind:
            case "num":
                literal = read_number(token.text)
                if self.at("op", "_"):
                    return self.based(token.text)
                if literal.digits is not None and self.at("const", "ellipsis"):
                    self.take()
                    return Num(literal.value, literal.digits, literal.places, open=True)
                return literal
            case "repeating":
                return read_repeating(token.text)
            case "const":
                return Const(token.text)
            case "name":
                return self.named(token.text)
            case "func":
                return self.function(token.text)
            case "cmd":
                return self.command(token.text)
            case "cur":
                return self.power()
            case "op":
                return self.nested(lambda: self.bracketed(token.text))
        raise ParseError(f"no value where {token.text or 'the end'} stands")

    def bracket_follows(self, ahead: int) -> bool:
        return self.peek(ahead).kind == "op" and self.peek(ahead).text in ("(", "{", "[")

    def argument(self) -> Node:
        """The argument of \\frac, \\sqrt, _ or ^: a group, or one digit, letter or command."""
        if self.at("op", "{"):
            return self.group()
        return self.nested(self.atom)

    def raw_digits(self, node: Node) -> bool:
        """Whether a literal in parentheses has just been read: (204)_5."""
        return isinstance(node, Num) and self.peek(-1).text == ")" and self.peek(-2).kind == "num"

    # The rest of the grammar of atoms is in calls.py (functions and commands) and structures.py (brackets).

    def named(self, name: str) -> Node:
        raise NotImplementedError

    def degrees(self, node: Node) -> Node:
        raise NotImplementedError

    def subscripted(self, node: Node) -> Node:
        raise NotImplementedError

    def based(self, digits: str) -> Node:
        raise NotImplementedError

    def group(self) -> Node:
        raise NotImplementedError

    def parenthesis(self) -> Node:
        raise NotImplementedError

    def bracketed(self, opening: str) -> Node:
        raise NotImplementedError

    def function(self, name: str) -> Node:
        raise NotImplementedError

    def command(self, name: str) -> Node:
        raise NotImplementedError
