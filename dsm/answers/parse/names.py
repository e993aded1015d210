"""What a name or a literal becomes with what stands behind it: subscripts, bases, primes, degrees, arguments."""

from __future__ import annotations

from dsm.answers.nodes import Based, Call, Const, Node, Num, ParseError, Seq, Sym, number
from dsm.answers.parse.expressions import ExpressionParser
from dsm.answers.parse.lexer import Token
from dsm.answers.parse.literals import read_number
from dsm.answers.parse.vocabulary import LETTER_CALLS, MAYBE_CALLS


class NameParser(ExpressionParser):
    """Adds names to expressions."""

    # ------------------------------------------------ variables and functions by a letter

    def named(self, name: str) -> Node:
        if name in ("e", "i") and not self.at("op", "_"):
            return Const(name)
        if name == "C" and self.at("op", "_") and (chosen := self.combination()) is not None:
            return chosen
        if self.defines():
            return Call("@" + name, self.arguments())
        if name in LETTER_CALLS and self.at("op", "^") and (inverse := self.inverse(name)) is not None:
            return inverse
        if name == "C" and self.at("op", "(") and self.peek(1).kind == "num" and self.peek(2).kind == "sep":
            return Call("binomial", self.arguments())
        if name in LETTER_CALLS and self.at("op", "{") and self.peek(1).text == "(":
            return Call("@" + name, (self.group(),))
        primes = ""
        while self.at("rel", "'", "''"):
            primes += self.take().text
        if (
            self.at("op", "(")
            and not self.next.space
            and (name in LETTER_CALLS or primes or (name in MAYBE_CALLS and self.single_argument()))
        ):
            return Call("@" + name + primes, self.arguments())
        return Sym(name + primes)

    def defines(self) -> bool:
        """Whether (x) = follows: a(n) = 2n defines a function, whatever its letter."""
        return self.at("op", "(") and self.single_argument() and self.peek(3) == Token("rel", "=", self.peek(3).space)

    def inverse(self, name: str) -> Node | None:
        """f^{-1}(x) is no power."""
        start = self.position
        self.take()
        if self.exponent() == number(-1) and self.at("op", "("):
            return Call(f"@{name}^-1", self.arguments())
        self.position = start
        return None

    def single_argument(self) -> bool:
        return self.peek(1).kind in ("name", "num", "const") and self.peek(2).text == ")"

    def combination(self) -> Node | None:
        """C_5^2 and C_5^{2}: five choose two, as written in China."""
        start = self.position
        self.take()
        try:
            below = self.argument()
            if isinstance(below, Num) and self.accept("op", "^"):
                above = self.argument()
                if isinstance(above, Num):
                    return Call("binomial", (below, above))
        except ParseError:
            pass
        self.position = start
        return None

    def arguments(self) -> tuple[Node, ...]:
        """What stands in the parentheses that open here."""
        node = self.nested(self.parenthesis)
        return node.items if isinstance(node, Seq) and node.kind == "tuple" else (node,)

    # ------------------------------------------------ subscripts, bases, degrees

    def subscripted(self, node: Node) -> Node:
        """x_1, a_{n+1} (an unknown function of n + 1), 204_5 and (204)_5."""
        label = self.label() if isinstance(node, Sym | Const) else None
        if label is not None:
            return Sym(f"{node.name}_{label}")  # type: ignore[union-attr]
        inner = self.argument()
        if isinstance(node, Sym):
            return Call(f"@{node.name}_", inner.items if isinstance(inner, Seq) else (inner,))
        raise ParseError("a subscript where none can stand")

    def label(self) -> str | None:
        """A subscript without operators: part of the name."""
        plain = ("name", "num", "word", "const")
        if self.next.kind in plain:
            return self.take().text
        end = 1
        while self.at("op", "{") and (self.peek(end).kind in plain or self.peek(end).text in ("triangle", ",")):
            end += 1
        if end == 1 or self.peek(end).text != "}":
            return None
        label = "".join(self.peek(ahead).text for ahead in range(1, end))
        self.position += end + 1
        return label

    def based(self, digits: str) -> Node:
        """204_5, 0.0011_2: the digits and, behind the underscore, their base."""
        self.expect("_")
        if self.at("op", "{") and self.peek(1).kind == "word":  # _{base 5}
            self.position += 1
            self.tokens[self.position] = self.next._replace(kind="op", text="{")
        base = self.argument()
        if not (isinstance(base, Num) and base.value.denominator == 1 and 2 <= base.value <= 36):
            raise ParseError("a base outside 2 to 36")
        if not set(digits) <= set("0123456789"[: int(base.value)] + "."):
            raise ParseError("digits that the base does not have")
        return Based(digits, int(base.value))

    def degrees(self, node: Node) -> Node:
        """30°, 30°15', 20 °C."""
        if self.at("name", "C", "F") and not self.bracket_follows(1):
            self.take()
            return node
        if self.at("num") and self.peek(1).text == "'":
            minutes = read_number(self.take().text)
            self.take()
            return Call("deg", (Call("+", (node, number(minutes.value / 60))),))
        return Call("deg", (node,))
