"""Functions and commands: \\sin x, log(8, 2), \\frac{a}{b}, \\sum_{k=1}^{n} k, matrices; SymPy's constructors too."""

from __future__ import annotations

from dsm.answers.nodes import Call, Const, Interval, Matrix, Node, Num, ParseError, Relation, Seq, Sym, number, replace
from dsm.answers.parse.names import NameParser
from dsm.answers.parse.vocabulary import ACCENTS

_MATRICES = frozenset(["matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "smallmatrix", "array"])
_SYSTEMS = frozenset(
    ["cases", "aligned", "align", "align*", "gathered", "gather", "split", "equation", "equation*", "dcases", "rcases"]
)
_DELIMITED = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil")}
_CONTAINERS = {
    "FiniteSet": "set",
    "Tuple": "tuple",
    "set": "set",
    "tuple": "tuple",
    "list": "bracket",
    "frozenset": "set",
    "Set": "set",
}
_RELATIONS = {
    **dict.fromkeys(("Eq", "Equality"), "="),
    **dict.fromkeys(("Ne", "Unequality"), "!="),
    **dict.fromkeys(("Lt", "StrictLessThan"), "<"),
    **dict.fromkeys(("Le", "LessThan"), "<="),
    **dict.fromkeys(("Gt", "StrictGreaterThan"), ">"),
    **dict.fromkeys(("Ge", "GreaterThan"), ">="),
}
_SETS = {"Union": "union", "Intersection": "intersection", "Complement": "difference"}
_TRANSPARENT = frozenset(
    ("Symbol", "symbols", "Integer", "Float", "sympify", "S", "simplify", "N", "Dummy", "float", "int", "array")
)


class CallParser(NameParser):
    """Adds everything that starts with a name."""

    # ------------------------------------------------ functions

    def function(self, name: str) -> Node:
        if name.startswith("@"):
            return self.python_call(name[1:])
        if name == "gamma" and not self.at("op", "("):
            return Sym("gamma")
        if name == "sqrt":
            return self.radical()
        base = power = None
        while self.at("op", "_", "^"):
            if self.take().text == "_":
                base = self.argument()
            else:
                power = self.exponent()
        args = self.function_arguments()
        if len(args) == 1 and isinstance(args[0], Seq) and name in ("gcd", "lcm", "max", "min"):
            args = args[0].items
        node = self.called(name, args, base)
        if power is None:
            return node
        inverse = name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh")
        if inverse and power == number(-1):
            return Call("a" + name, args)
        return Call("^", (node, power))

    def called(self, name: str, args: tuple[Node, ...], base: Node | None) -> Node:
        if name == "log" and base is not None:
            return Call("logb", (args[0], base))
        if name == "log" and len(args) == 2:
            return Call("logb", args)
        if name in ("lg", "log2") and len(args) == 1:
            return Call("logb", (args[0], number(10 if name == "lg" else 2)))
        if name == "cis":
            return Call("^", (Const("e"), Call("*", (Const("i"), *args))))
        if name == "exp":
            return Call("^", (Const("e"), *args))
        if name in ("root", "^", "/", "mod", "binomial", "perm") and len(args) != 2:
            raise ParseError(f"{name} takes two arguments")
        if (
            name not in ("gcd", "lcm", "max", "min", "root", "^", "/", "mod", "binomial", "perm", "arg")
            and len(args) != 1
        ):
            raise ParseError(f"{name} takes one argument")
        return Call(name, args)

    def function_arguments(self) -> tuple[Node, ...]:
        """In parentheses or braces; else the product that follows, up to the next function."""
        if self.at("op", "("):
            return self.arguments()
        if self.at("op", "{"):
            return (self.group(),)
        if self.at("op", "-"):
            return (self.nested(self.factor),)
        factors = [self.power_of_argument()]
        while (
            self.next.kind in ("name", "num", "const")
            or self.at("op", "{")
            or (self.at("cmd", "frac", "sqrt"))
            or (
                self.at("op", "/")
                and self.peek(1).kind in ("num", "const", "name")
                and not self.peek(1).space
                and not self.next.space
            )
        ):
            if self.at("name", "U"):
                break
            if self.accept("op", "/"):
                factors = [Call("/", (_product(factors), self.power_of_argument()))]
            else:
                factors.append(self.power_of_argument())
        return (_product(factors),)

    def power_of_argument(self) -> Node:
        return self.nested(self.power)

    def radical(self) -> Node:
        """\\sqrt[n]{x}, sqrt(x), √x; sqrt(x, n) is no notation of anyone's."""
        if self.at("op", "["):
            self.take()
            index = self.expression()
            self.expect("]")
            return Call("root", (self.argument(), index))
        if self.at("op", "("):
            args = self.arguments()
            if len(args) != 1:
                raise ParseError("sqrt takes one argument")
            return Call("sqrt", args)
        return Call("sqrt", (self.argument(),))

    # ------------------------------------------------ SymPy's constructors and Python's

    def python_call(self, name: str) -> Node:
        args = self.arguments_with_flags()
        if name == "Interval" and len(args) in (2, 3, 4):
            flags = [*args[2:], Const("false"), Const("false")]
            return Interval(args[0], args[1], (flags[0] != Const("true"), flags[1] != Const("true")))
        if name in ("Interval.open", "Interval.Lopen", "Interval.Ropen") and len(args) == 2:
            return Interval(args[0], args[1], (name == "Interval.Ropen", name == "Interval.Lopen"))
        if name in _RELATIONS and len(args) == 2:
            return Relation((_RELATIONS[name],), args)
        if name in _SETS and args:
            node = args[0]
            for other in args[1:]:
                node = Call(_SETS[name], (node, other))
            return node
        if name in _CONTAINERS:
            if len(args) == 1 and isinstance(args[0], Seq) and args[0].kind in ("bracket", "tuple", "set"):
                args = args[0].items
            return Seq(_CONTAINERS[name], args)  # type: ignore[arg-type]
        if name in ("Sum", "Product") and len(args) == 2 and isinstance(args[1], Seq) and len(args[1].items) == 3:
            return Call("sum" if name == "Sum" else "prod", (*args[1].items, args[0]))
        if name in ("And", "Or") and args:
            return Call(name.lower(), args)
        if name in ("Matrix", "ImmutableMatrix", "ImmutableDenseMatrix", "MutableDenseMatrix", "np.array") and args:
            return _python_matrix(args)
        if name in _TRANSPARENT and len(args) == 1:
            return args[0]
        return Call("@" + name, args)

    def arguments_with_flags(self) -> tuple[Node, ...]:
        """Arguments of a Python call: True and False are constants here."""
        self.expect("(")
        args: list[Node] = []
        while not self.accept("op", ")"):
            if self.at("word", "True", "False", "true", "false"):
                args.append(Const(self.take().text.lower()))
            elif self.at("op", "'", '"') or self.at("rel", "'", '"'):
                self.take()
                continue
            else:
                args.append(self.nested(self.statement))
            if (
                not self.accept("sep", ",")
                and not self.at("op", ")")
                and not self.at("op", "'", '"')
                and not self.at("rel", "'")
            ):
                raise ParseError("an unclosed call")
        return tuple(args)

    # ------------------------------------------------ commands

    def command(self, name: str) -> Node:
        if name == "frac":
            return Call("/", (self.argument(), self.argument()))
        if name == "binom":
            return Call("binomial", (self.argument(), self.argument()))
        if name == "begin":
            return self.nested(self.environment)
        if name in _DELIMITED:
            closing, function = _DELIMITED[name]
            inner = self.expression()
            if not self.accept("cmd", closing):
                raise ParseError(f"an unclosed \\{name}")
            return Call(function, (inner,))
        if name in ("sum", "prod"):
            return self.nested(lambda: self.big_operator(name))
        if name in ("angle", "triangle", "measuredangle"):
            return self.figure(name)
        if name == "langle":
            return self.nested(self.angle_brackets)
        if name in ACCENTS:
            return Call("@vec" if name in ("overrightarrow", "vec") else f"@{name}", (self.argument(),))
        if name == "boxed":
            return self.argument()
        raise ParseError(f"the command \\{name}")

    def figure(self, name: str) -> Node:
        """\\angle ABC and \\triangle ABC: a name, which may be read from either end."""
        letters = ""
        while self.at("name"):
            letters += self.take().text
        if not letters:
            raise ParseError(f"\\{name} of nothing")
        return Sym(f"{name} {min(letters, letters[::-1])}")

    def big_operator(self, name: str) -> Node:
        """\\sum_{k=1}^{n} k^2: Call("sum", (k, 1, n, k^2)). The body is the product that follows."""
        low = high = None
        for _ in range(2):
            if self.accept("op", "_"):
                low = self.big_lower()
            elif self.accept("op", "^"):
                high = self.exponent()
        if low is None or high is None:
            raise ParseError(f"a \\{name} without bounds")
        index, first = low
        body = self.term()
        if index == Sym("i"):
            body = replace(body, Const("i"), index)
        return Call(name, (index, first, high, body))

    def big_lower(self) -> tuple[Node, Node]:
        self.expect("{")
        variable = self.atom()
        if variable == Const("i"):
            variable = Sym("i")
        if not (isinstance(variable, Sym) and self.accept("rel", "=")):
            raise ParseError("a sum without an index")
        low = self.expression()
        self.expect("}")
        return variable, low

    # ------------------------------------------------ environments

    def environment(self) -> Node:
        kind = self.environment_name()
        if kind in _SYSTEMS:
            return self.system(kind)
        if kind not in _MATRICES:
            raise ParseError(f"the environment {kind}")
        if kind == "array" and self.at("op", "{"):
            while not self.accept("op", "}"):
                if self.take().kind == "end":
                    raise ParseError("an unclosed array")
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        while True:
            if self.accept("cmd", "end"):
                self.environment_name(back=True)
                break
            if self.accept("cmd", "\\"):
                rows.append(tuple(row))
                row = []
            elif self.accept("op", "&") or self.accept("cmd", "hline"):
                continue
            elif self.next.kind == "end":
                raise ParseError("an unclosed matrix")
            else:
                row.append(self.nested(self.statement))
        rows = [tuple(entries) for entries in [*rows, row] if entries]
        if not rows or len({len(entries) for entries in rows}) > 1:
            raise ParseError("matrix rows of different lengths")
        if any(isinstance(entry, Relation) for entries in rows for entry in entries):
            return Seq("list", tuple(entry for entries in rows for entry in entries))
        matrix = Matrix(tuple(rows))
        return Call("det", (matrix,)) if kind == "vmatrix" else matrix

    def environment_name(self, back: bool = False) -> str:
        if back:
            self.position -= 1
            self.take()
        self.expect("{")
        name = ""
        while not self.accept("op", "}"):
            if self.next.kind == "end":
                raise ParseError("an environment without a name")
            name += self.take().text
        return name

    def system(self, kind: str) -> Node:
        """cases and aligned: the lines, as a list."""
        lines: list[Node] = []
        while not self.accept("cmd", "end"):
            if self.next.kind == "end":
                raise ParseError("an unclosed environment")
            if self.accept("cmd", "\\") or self.accept("op", "&") or self.accept("sep"):
                continue
            lines.append(self.nested(self.statement))
        self.environment_name()
        return lines[0] if len(lines) == 1 else Seq("list", tuple(lines))

    # ------------------------------------------------ given by structures.Parser

    def statement(self) -> Node:
        raise NotImplementedError

    def angle_brackets(self) -> Node:
        raise NotImplementedError


def _product(factors: list[Node]) -> Node:
    return factors[0] if len(factors) == 1 else Call("*", tuple(factors))


def _entries(node: Node) -> tuple[Node, ...] | None:
    """What [..] or (..) holds: a pair in square brackets has been read as an interval."""
    if isinstance(node, Seq):
        return node.items
    return (node.low, node.high) if isinstance(node, Interval) else None


def _python_matrix(args: tuple[Node, ...]) -> Matrix:
    if len(args) == 3 and all(isinstance(arg, Num) for arg in args[:2]) and (flat := _entries(args[2])) is not None:
        height, width = (int(arg.value) for arg in args[:2] if isinstance(arg, Num))
        if height * width != len(flat) or height < 1:
            raise ParseError("a matrix whose entries do not fit its shape")
        return Matrix(tuple(flat[i * width : (i + 1) * width] for i in range(height)))
    outer = _entries(args[0])
    if outer is None:
        raise ParseError("a matrix of what is no list")
    rows = [_entries(row) for row in outer]
    if all(row is None for row in rows):
        return Matrix(tuple((entry,) for entry in outer))
    shape = {len(row) for row in rows if row is not None}
    if len(shape) != 1 or None in rows or 0 in shape:
        raise ParseError("matrix rows of different lengths")
    return Matrix(tuple(row for row in rows if row is not None))
