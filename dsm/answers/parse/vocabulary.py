"""The names that mean something: functions, constants, sets, commands that may have lost their backslash, numbers as words."""

from __future__ import annotations

_TRIG = ("sin", "cos", "tan", "cot", "sec", "csc")

FUNCTIONS: dict[str, str] = {
    **{name: name for name in _TRIG},
    **{f"arc{name}": f"a{name}" for name in _TRIG},
    **{f"a{name}": f"a{name}" for name in _TRIG},
    **{f"{name}h": f"{name}h" for name in _TRIG},
    **{f"{prefix}{name}h": f"a{name}h" for name in _TRIG for prefix in ("a", "ar", "arc")},
    "tg": "tan", "ctg": "cot", "cotg": "cot", "cosec": "csc", "arctg": "atan", "arcctg": "acot", "sh": "sinh", "ch": "cosh", "th": "tanh",
    "ln": "ln", "log": "log", "lg": "lg", "lb": "log2", "exp": "exp", "log10": "lg", "log2": "log2", "log1p": "log1p",
    "sqrt": "sqrt", "cbrt": "cbrt", "root": "root", "abs": "abs", "Abs": "abs", "fabs": "abs", "floor": "floor", "ceil": "ceil",
    "ceiling": "ceil", "sgn": "sign", "sign": "sign", "gcd": "gcd", "lcm": "lcm", "GCD": "gcd", "LCM": "lcm", "max": "max", "min": "min",
    "Max": "max", "Min": "min", "factorial": "factorial", "gamma": "gamma", "binomial": "binomial", "comb": "binomial", "perm": "perm",
    "det": "det", "re": "re", "im": "im", "Re": "re", "Im": "im", "arg": "arg", "conjugate": "conj", "pow": "^", "Pow": "^",
    "Rational": "/", "Fraction": "/", "Mod": "mod", "mod": "mod",
}  # fmt: skip
"""Spelling -> the name that a Call has. `gamma` is a function only where parentheses follow; `\\gamma` is a letter."""

LETTER_CALLS = frozenset("fgFG")
"""Letters that are functions wherever parentheses follow: f(x) is no product."""
MAYBE_CALLS = frozenset("hpqruvwHPQRSTUVWLNAM")
"""Letters that are functions where the parentheses hold one symbol or number, P(3); otherwise factors, h(b + 1)."""

SHORT_CALLS = frozenset("Eq Ne Lt Le Gt Ge Or".split())
"""SymPy's constructors of two letters."""

CONSTANTS: dict[str, str] = {
    "pi": "pi", "Pi": "pi", "infty": "oo", "infinity": "oo", "Infinity": "oo", "inf": "oo", "oo": "oo", "Inf": "oo",
    "emptyset": "empty", "EmptySet": "empty", "ldots": "ellipsis", "zoo": "zoo", "nan": "nan",
    "Reals": "reals", "Integers": "integers", "Naturals": "naturals", "Rationals": "rationals", "Complexes": "complexes",
}  # fmt: skip

SETS = {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes"}

GREEK = frozenset(
    ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "ell", "hbar", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Sigma", "Upsilon", "Phi", "Psi", "Omega", "Pi", "partial", "nabla", "imath", "jmath", "varsigma", "triangle", "omicron", "aleph"]
)

BARE_COMMANDS = frozenset(
    ["frac", "dfrac", "tfrac", "sqrt", "cdot", "times", "binom", "text", "textbf", "mathrm", "mathbf", "boxed", "infty", "cup", "cap", "leq", "geq", "neq", "pi", "circ", "begin", "end", "overline", "mathbb", "operatorname", "setminus"]
)
"""Commands that are recognised without their backslash."""

TEXT_COMMANDS = frozenset(["text", "mbox", "textbf", "textit", "textnormal", "textrm", "textsf", "texttt", "emph", "textsc", "textup", "hbox"])
FONT_COMMANDS = frozenset(
    ["mathrm", "mathbf", "mathit", "mathsf", "operatorname", "boldsymbol", "bm", "mathtt", "mathscr", "mathcal", "mathfrak", "pmb", "symbf", "mathop", "rm", "underline", "color"]
)
ACCENTS = frozenset(["overline", "overrightarrow", "overleftarrow", "vec", "hat", "widehat", "tilde", "widetilde", "bar", "dot", "ddot", "overarc", "wideparen"])

RELATIONS: dict[str, str] = {
    "=": "=", "==": "=", "<": "<", ">": ">", "<=": "<=", ">=": ">=", "=<": "<=", "!=": "!=", "=>": "=>", ":=": "=", "/=": "!=",
    "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "\\approx": "~", "\\sim": "~", "\\equiv": "==", "\\in": "in", "\\doteq": "~",
    "\\notin": "notin", "\\Rightarrow": "=>", "\\to": "->", "\\rightarrow": "->", "->": "->", "\\propto": "propto",
    "\\leftarrow": "<-", "\\subseteq": "subset", "\\subset": "subset", "\\perp": "perp", "\\parallel": "parallel",
}  # fmt: skip

CURRENCIES = {
    "\\$": "usd", "€": "eur", "£": "gbp", "¥": "cny", "￥": "cny", "₹": "inr", "USD": "usd", "EUR": "eur", "GBP": "gbp", "RMB": "cny",
    "Rs": "inr", "Rs.": "inr", "US": "usd",
}  # fmt: skip

FILLERS = frozenset(["approximately", "about", "exactly", "roughly", "around", "nearly", "almost", "only", "just", "is", "equals", "equal", "to", "be", "the", "a", "an", "at", "约", "大约", "等于", "是", "为", "共"])
"""Words in front of a value that say nothing."""

_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
NUMBER_WORDS: dict[str, int] = {word: value for value, word in enumerate(_UNITS.split())}
NUMBER_WORDS |= {word: 10 * i for i, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2)}
NUMBER_WORDS |= {f"{tens}-{unit}": NUMBER_WORDS[tens] + NUMBER_WORDS[unit]
                 for tens in ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
                 for unit in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]}  # fmt: skip
SCALE_WORDS = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12,
               "万": 10**4, "亿": 10**8, "百": 100, "千": 1000}  # fmt: skip
CHINESE_NUMBERS = {c: i for i, c in enumerate("零一二三四五六七八九十")} | {"两": 2}
