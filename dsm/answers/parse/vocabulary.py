"""Names that mean something: functions, constants, sets, commands without their backslash, numbers as words."""

from __future__ import annotations


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TRIG = ("sin", "cos", "tan", "cot", "sec", "csc")
_SAME = """ln log exp sqrt cbrt root abs floor ceil gcd lcm max min sign factorial gamma binomial perm det re im arg mod
    log1p cis"""
_OTHER = """tg tan ctg cot cotg cot cosec csc arctg atan arcctg acot sh sinh ch cosh th tanh lg lg log10 lg lb log2
    log2 log2 Abs abs fabs abs ceiling ceil sgn sign GCD gcd LCM lcm Max max Min min comb binomial Re re Im im
    conjugate conj Mod mod pow ^ Pow ^ Rational / Fraction /"""

FUNCTIONS: dict[str, str] = {
    **{name: name for name in (*_TRIG, *_SAME.split())},
    **{f"{prefix}{name}": f"a{name}" for name in _TRIG for prefix in ("a", "arc")},
    **{f"{name}h": f"{name}h" for name in _TRIG},
    **{f"{prefix}{name}h": f"a{name}h" for name in _TRIG for prefix in ("a", "ar", "arc")},
    **dict(zip(_OTHER.split()[::2], _OTHER.split()[1::2], strict=True)),
}
"""Spelling -> the name that a Call has. `gamma` is a function only where parentheses follow; `\\gamma` is a letter."""

LETTER_CALLS = frozenset("fgFG")
"""Letters that are functions wherever parentheses follow: f(x) is no product."""
MAYBE_CALLS = frozenset("hpqruvwHPQRSTUVWLNAM")
"""Letters that are functions where the parentheses hold one symbol or number, P(3); else factors, h(b + 1)."""

SHORT_CALLS = _set("Eq Ne Lt Le Gt Ge Or")
"""SymPy's constructors of two letters."""

CONSTANTS: dict[str, str] = {
    **dict.fromkeys(("pi", "Pi"), "pi"),
    **dict.fromkeys(("infty", "infinity", "Infinity", "inf", "Inf", "oo"), "oo"),
    **dict.fromkeys(("emptyset", "EmptySet"), "empty"),
    **{name: name.lower() for name in ("Reals", "Integers", "Naturals", "Rationals", "Complexes")},
    "ldots": "ellipsis",
}

SETS = {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes"}

GREEK = _set(
    """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon phi chi psi omega
    Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega ell hbar partial nabla imath jmath varsigma aleph"""
)

BARE_COMMANDS = _set(
    """frac dfrac tfrac sqrt cdot times binom text textbf mathrm mathbf boxed infty cup cap leq geq neq circ begin end
    overline mathbb operatorname setminus"""
)
"""Commands that are recognised without their backslash."""

TEXT_COMMANDS = _set("text mbox textbf textit textnormal textrm textsf texttt emph textsc textup hbox")
FONT_COMMANDS = _set(
    """mathrm mathbf mathit mathsf operatorname boldsymbol bm mathtt mathscr mathcal mathfrak pmb symbf mathop rm
    underline color"""
)
ACCENTS = _set(
    """overline overrightarrow overleftarrow vec hat widehat tilde widetilde bar dot ddot overarc wideparen"""
)

RELATIONS: dict[str, str] = {
    **{sign: sign for sign in ("=", "<", ">", "<=", ">=", "!=", "=>", "->")},
    "==": "=",
    ":=": "=",
    "=<": "<=",
    "/=": "!=",
    r"\le": "<=",
    r"\ge": ">=",
    r"\ne": "!=",
    r"\equiv": "==",
    r"\in": "in",
    r"\notin": "notin",
    **dict.fromkeys((r"\approx", r"\sim", r"\doteq"), "~"),
    **dict.fromkeys((r"\to", r"\rightarrow"), "->"),
    r"\Rightarrow": "=>",
    r"\propto": "propto",
    r"\perp": "perp",
    r"\parallel": "parallel",
    **dict.fromkeys((r"\subset", r"\subseteq"), "subset"),
}

CURRENCIES = {
    **dict.fromkeys(("\\$", "USD", "US"), "usd"),
    **dict.fromkeys(("€", "EUR"), "eur"),
    **dict.fromkeys(("£", "GBP"), "gbp"),
    **dict.fromkeys(("¥", "￥", "RMB", "CNY"), "cny"),
    **dict.fromkeys(("₹", "INR", "Rs"), "inr"),
}

FILLERS = _set(
    "approximately about exactly roughly around nearly almost only just is equals equal to be the a an at 共"
)
"""Words in front of a value that say nothing."""

ENGLISH = _set("is of to if no the are for not yes has was all any per odd each")
"""Words that no one means as a product of letters."""

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905 - a list of strings is no clearer
NUMBER_WORDS: dict[str, int] = {word: value for value, word in enumerate(_UNITS)}
NUMBER_WORDS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
NUMBER_WORDS |= {f"{ten}-{one}": NUMBER_WORDS[ten] + NUMBER_WORDS[one] for ten in _TENS for one in _UNITS[1:10]}
SCALE_WORDS = {
    "dozen": 12,
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "百": 100,
    "千": 1000,
    "万": 10**4,
    "亿": 10**8,
}
CHINESE_NUMBERS = {character: value for value, character in enumerate("零一二三四五六七八九十")} | {"两": 2}
