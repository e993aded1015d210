r"""What a word is where texts are compared: the grams of near-duplicates and of contamination.

A copy may be spelt in another way; another problem may differ in one number only. So what is formatting goes and what
is content stays:

- letters are lower case, Unicode is compatibility-normalised (NFKC); white space and punctuation only part grams;
- a run of letters is a gram, a number is one (1,072 and 1{,}072 are 1072; 3.5 is one), a CJK character is one;
- each of the operators `+ - * / = < > ^ _ %` is a gram; runs such as `---`, `***`, `____` are rules, emphasis, blanks:
  formatting;
- of TeX, commands are grams (`\frac`), while braces, `$`, sizes, fonts and spacing are formatting: `$x^2+3x$` and
  `x^{2} + 3 x` are the same, and so are `\frac12`, `\dfrac{1}{2}`. Unicode's mathematics is read as the TeX for it
  (`≤` is `\le`, `x²` is `x^2`), and a function's name is a word (`\sin` is sin);
- GSM8K's calculator annotations `<<48/2=24>>` are formatting.

A text is cut with numpy, without a Python object a gram: grams are found, hashed and compared as arrays, and become
strings only where somebody looks at them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

VERSION = "1"
"""Raised when the grams of any text change, or their hashes: what was stored with others is then made anew."""

UInt64: TypeAlias = npt.NDArray[np.uint64]

_OPERATORS = "+-*/=<>^_%"
_CJK = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF))
_NOTHING, _LETTER, _DIGIT, _SINGLE = range(4)  # what a character is to a gram; a single one is a gram by itself
_TABLE_SIZE = _CJK[-1][1] + 2  # the last entry stands for all characters behind it

_BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)
_KEPT_POWERS = 1 << 20  # of longer texts they are made anew each time

_RULES = re.compile(r"[-=*_]{2,}")
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")
_THOUSANDS = re.compile(r",(?<=[0-9],)(?=[0-9]{3}(?![0-9]))")
_COMMAND = re.compile(r"\\([a-z]+\*?|.|\Z)", re.DOTALL)
_SHORT_FRACTION = re.compile(r"(\\frac\s*[0-9])(?=[0-9])")
_ENVIRONMENT = re.compile(r"\\(?:begin|end) ?\{[a-z]+\*?\}")

_FORMATTING = """left right big bigl bigr bigg biggl biggr displaystyle textstyle limits nolimits quad qquad hspace
    vspace phantom text textbf textit textrm texttt mathrm mathbf mathit mathsf mathcal mathbb mathfrak boldsymbol bf
    rm it operatorname operatorname* mbox hbox boxed ldots cdots dots vdots mid vert lvert rvert prime colon label
    nonumber notag begin end hline"""
_FUNCTIONS = """sin cos tan cot sec csc arcsin arccos arctan log ln exp max min gcd lcm lim mod det dim deg"""
_TEX = {"leq": r"\le ", "geq": r"\ge ", "neq": r"\ne ", "rightarrow": r"\to ", "%": "%", "\n": "\n"}
_TEX |= dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac ")
_TEX |= dict.fromkeys(_FORMATTING.split(), " ")
_TEX |= {name: f" {name} " for name in _FUNCTIONS.split()}

_GREEK = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi o pi rho . sigma tau upsilon phi
    chi psi omega"""
_SIGNS = """× times ÷ div · cdot ⋅ cdot ≤ le ≥ ge ⩽ le ⩾ ge ≠ ne ± pm √ sqrt ∞ infty ∠ angle ∈ in ∩ cap ∪ cup ⊂ subset
    ⊆ subseteq ∑ sum ∏ prod ∫ int ∂ partial ≈ approx ≡ equiv → to △ triangle ⊥ perp ∅ emptyset"""
_UNICODE = {"\u2212": "-", "\u2013": "-", "\u2044": "/", "\u00b0": r"^\circ "}
_UNICODE |= {"\u00bd": " 1/2 ", "\u00bc": " 1/4 ", "\u00be": " 3/4 "}
_UNICODE |= {chr(0x3B1 + place): rf" \{name} " for place, name in enumerate(_GREEK.split()) if len(name) > 1}
_UNICODE |= dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹", [f"^{digit}" for digit in range(10)], strict=True))
_UNICODE |= dict(zip("₀₁₂₃₄₅₆₇₈₉", [f"_{digit}" for digit in range(10)], strict=True))
_UNICODE |= dict(zip(_SIGNS.split()[::2], [rf" \{name} " for name in _SIGNS.split()[1::2]], strict=True))
_MATHEMATICS = re.compile(f"[{''.join(_UNICODE)}]")


@dataclass(frozen=True, eq=False)
class Grams:
    """A text's grams, in order.

    Attributes:
        plain: the text without formatting; it has the line breaks of the original.
        starts, ends: (n,) int64: gram i is `plain[starts[i]:ends[i]]`.
        hashes: (n,) uint64, equal for equal grams on every machine.
    """

    plain: str
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    hashes: UInt64

    @classmethod
    def of(cls, text: str) -> Grams:
        """Cut a text."""
        plain = plain_text(text)
        if plain.isascii():
            codes: npt.NDArray[np.integer] = np.frombuffer(plain.encode("ascii"), np.uint8)
            kinds = _ascii_kinds().take(codes)
        else:
            codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), np.uint32)
            kinds = _kinds().take(np.minimum(codes, _TABLE_SIZE - 1))
        if "." in plain:
            dots = np.flatnonzero(codes == ord("."))
            dots = dots[(dots > 0) & (dots < len(codes) - 1)]
            kinds[dots[(kinds[dots - 1] == _DIGIT) & (kinds[dots + 1] == _DIGIT)]] = _DIGIT
        border = kinds == _SINGLE
        border[1:] |= kinds[1:] != kinds[:-1]
        border[:1] = True
        if "\\" in plain:
            border |= codes == ord("\\")
        borders = np.flatnonzero(border)
        inside = kinds[borders] != _NOTHING
        ends = np.append(borders[1:], len(codes))[inside]
        starts = borders[inside]
        return cls(plain, starts, ends, _hashes(codes, starts, ends))

    def __len__(self) -> int:
        return len(self.starts)

    def texts(self, first: int = 0, stop: int | None = None) -> list[str]:
        """Grams [first, stop) as strings."""
        spans = zip(self.starts[first:stop].tolist(), self.ends[first:stop].tolist(), strict=True)
        return [self.plain[start:end] for start, end in spans]

    def equal(self, first: int, other: Grams, place: int, count: int) -> bool:
        """Are grams [first, first + count) those of `other` from `place` on? Strings are compared, not only hashes."""
        mine, theirs = self.hashes[first : first + count], other.hashes[place : place + count]
        if len(mine) < count or not np.array_equal(mine, theirs):
            return False
        return self.texts(first, first + count) == other.texts(place, place + count)

    def words(self) -> npt.NDArray[np.bool_]:
        """(n,): is it a word of a language, not a number, a symbol, an x, an ax? CJK characters are words."""
        codes = np.frombuffer(self.plain.encode("utf-32-le", "surrogatepass"), np.uint32)[self.starts]
        kinds = _kinds().take(np.minimum(codes, _TABLE_SIZE - 1))
        letters, sizes = (kinds == _LETTER) & (codes != ord("\\")), self.ends - self.starts
        words = letters & ((sizes > 2) | ((sizes == 2) & np.isin(self.hashes, _short_words())))
        return words | ((kinds == _SINGLE) & (codes >= _CJK[0][0]))

    def lines(self, first: int, stop: int) -> range:
        """The lines of the text, from 0, on which grams [first, stop) stand; lines end at LF."""
        begin = self.plain.count("\n", 0, int(self.starts[first]))
        return range(begin, begin + self.plain.count("\n", int(self.starts[first]), int(self.starts[stop - 1])) + 1)


def runs(hashes: UInt64, length: int) -> UInt64:
    """(n,) -> (n - length + 1,): a hash of each `length` grams in a row; none where there are fewer."""
    if len(hashes) < length:
        return np.empty(0, np.uint64)
    if length == 1:
        return hashes
    last = length // 2 if length % 2 == 0 else 1
    front = runs(hashes, length - last)
    back = front if last > 1 else hashes
    return front[: len(front) - last] * np.uint64(pow(_BASE, last, 1 << 64)) + back[len(back) - len(front) + last :]


def mixed(values: UInt64) -> UInt64:
    """Every bit of a result depends on every bit of its value (the finaliser of SplitMix64); changes `values`."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
    return values


def plain_text(text: str) -> str:
    """Lower-case text without formatting that would part or make grams; keeps every line break."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _MATHEMATICS.sub(lambda sign: _UNICODE[sign[0]], text))
    text = text.lower()
    if "{,}" in text:
        text = text.replace("{,}", "")
    if "\\" in text:
        text = _COMMAND.sub(_command, _ENVIRONMENT.sub(" ", text.replace(",\\!", "")))
        if "\\frac" in text:
            text = _SHORT_FRACTION.sub(r"\1 ", text)
    if "<<" in text:
        text = _ANNOTATION.sub(" ", text)
    if "," in text:
        text = _THOUSANDS.sub("", text)
    if "--" in text or "**" in text or "__" in text or "==" in text:
        text = _RULES.sub(" ", text)
    return text


def _command(match: re.Match[str]) -> str:
    name = match[1]
    found = _TEX.get(name)
    if found is not None:
        return found
    if "a" <= name[:1] <= "z":
        return f"\\{name.rstrip('*')} "
    return name if name.isalnum() else " "


def _hashes(codes: npt.NDArray[np.integer], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> UInt64:
    """A polynomial of each gram's characters, modulo 2**64, by differences of one running sum over the text."""
    sums = np.empty(len(codes) + 1, np.uint64)
    sums[0] = 0
    count = 1 << max(16, len(codes).bit_length())
    powers, inverses = _kept_powers(count) if count <= _KEPT_POWERS else _powers(count)
    np.cumsum(codes * powers[: len(codes)], out=sums[1:])
    return mixed((sums[ends] - sums[starts]) * inverses[starts])


def _powers(count: int) -> tuple[UInt64, UInt64]:
    """The powers 0, 1, ... of the base and of its inverse."""
    found = []
    for factor in (_BASE, _INVERSE):
        powers = np.full(count, factor, np.uint64)
        powers[0] = 1
        found.append(np.cumprod(powers))
    return found[0], found[1]


_kept_powers = cache(_powers)


@cache
def _short_words() -> UInt64:
    return Grams.of("an am as at be by do go he if in is it me my no of on or so to up us we").hashes


@cache
def _ascii_kinds() -> npt.NDArray[np.uint8]:
    return _kinds_below(128)


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    return _kinds_below(_TABLE_SIZE)


def _kinds_below(size: int) -> npt.NDArray[np.uint8]:
    characters = map(chr, range(size))
    kinds = np.fromiter((_LETTER if c.isalpha() else _DIGIT * c.isdecimal() for c in characters), np.uint8, size)
    kinds[size - 1 if size == _TABLE_SIZE else 0] = _NOTHING
    for low, high in _CJK:
        kinds[low : high + 1] = np.where(kinds[low : high + 1] == _LETTER, _SINGLE, kinds[low : high + 1])
    kinds[[ord(operator) for operator in _OPERATORS]] = _SINGLE
    kinds[ord("\\")] = _LETTER
    return kinds
