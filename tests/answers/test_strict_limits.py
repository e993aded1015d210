"""No text of any kind takes long, raises, or is evaluated."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from dsm.answers.strict import grade
from dsm.config.answers import GraderConfig

RULES = GraderConfig(fallback=False)
SECONDS = 1.0

DEEP = [
    "(" * 10**6,
    ")" * 10**6,
    "{" * 10**5,
    "[" * 3000,
    "|" * 1001,
    "-" * 5000 + "1",
    r"\frac" * 1000,
    r"\sqrt{" * 300 + "2" + "}" * 300,
]
DEEP += [
    "sin(" * 60 + "x" + ")" * 60,
    r"\text{" * 1000,
    r"\begin{pmatrix}" * 100,
    r"\{" * 1000,
    "f(" * 1000,
    "x^" * 1000 + "x",
    r"\boxed{" * 10**5,
]
HUGE = [
    "9^9^9^9",
    "10^{10^{10}}",
    "1000000!",
    "(10^9)!",
    "((((5!)!)!)!)",
    "3!!!!!!!!",
    r"\binom{10^9}{5\cdot10^8}",
    "1e999999999",
    "1e-999999999",
]
HUGE += [
    "e^{e^{e^{e^{10}}}}",
    "2**2**2**2**2**2",
    r"\sin(10^{10^8})",
    "cosh(10^9)",
    "gamma(10**8)",
    "1.0000001^{10^{15}}",
    "(x+y+z)^{9999}",
    "x^{10^9}",
]
HUGE += [
    r"\sqrt[1000000]{2}",
    "1" * 10**6,
    "0." + "1" * 3000,
    "1" * 3000 + "^" + "9" * 3000,
    r"\prod_{k=1}^{1000} k^{k^k}",
    "floor(10**400)",
]
LONG = [
    r"\sum_{k=1}^{10^{12}} k",
    r"\sum_{k=1}^{2000}\sum_{j=1}^{2000} kj",
    "1," * 2000,
    "(1,2)," * 500,
    "x=" * 1000 + "1",
    "a" * 10**5,
    " " * 10**6,
]
LONG += [
    "5" + " " * 10**6,
    "5" + "." * 10**5,
    "\\," * 10**5,
    "\\" * 10**5,
    "{,}" * 10**5,
    "and " * 10**4,
    "，" * 10**5,
    "½" * 2000,
    "²" * 10**5,
    "1 " * 10**5,
]
LONG += [
    "the answer is " * 5000,
    "is " * 10**5 + "5",
    "$1$ " * 10**4,
    r"\boxed{5}" * 20000,
    r"\pm1" * 200,
    "1:2:3:4:5" * 200,
    "12:" * 1000,
    "\n" * 10**5 + "5",
]
NONSENSE = [
    "1/0",
    "0^{-1}",
    "0/0",
    r"\infty-\infty",
    r"\tan(90^\circ)",
    r"\log 0",
    r"\sqrt[0]{2}",
    "\x00\x01\x02",
    "\ud800",
    "😀" * 5000,
    "",
    ",",
    "=",
    "()",
    "[]",
]
NONSENSE += [
    r"\{\}",
    r"\frac{}{}",
    r"\sqrt{}",
    r"\text{}",
    "$$",
    "x<",
    "x=",
    "i^i^i^i",
    "(-1)^{1/3}",
    r"\pm",
    "^",
    "_",
    "'",
    '"',
    "%",
    "°",
    "!",
    "x'" * 2000,
]


@pytest.mark.parametrize("texts", [DEEP, HUGE, LONG, NONSENSE], ids=["deep", "huge", "long", "nonsense"])
def test_bounded(texts: list[str]) -> None:
    for text in texts:
        for gold, answer in ((text, "5"), ("5", text), (text, text + " + 0"), ("x^2+1", text), (r"\{1,2\}", text)):
            start = time.process_time()
            verdict = grade(gold, answer, RULES)
            assert time.process_time() - start < SECONDS, (gold[:40], answer[:40])
            assert verdict.outcome in ("correct", "wrong", "ungradable")


def test_random_texts() -> None:
    """Pieces of LaTeX, Python and noise in any order."""
    rng = random.Random(0)
    pieces = r"""\frac { } ( ) [ ] , ; = < > + - * / ^ _ ! | \{ \} \cup \sqrt \sin \log x y n 1 23 4.5 % \circ \pm \pi e
    i \infty \text{cm} or and \begin{pmatrix} \end{pmatrix} & \\ \sum _{k=1} ^{10} : am ' $ \left \right ** sqrt( oo
    km/h Matrix([[1,2]]) 的 ½ ² √"""
    for _ in range(800):
        one, other = (" ".join(rng.choices(pieces.split(), k=rng.randint(1, 14))) for _ in range(2))
        start = time.process_time()
        grade(one, other, RULES)
        assert time.process_time() - start < SECONDS, (one, other)


def test_nothing_is_evaluated(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    payloads = [
        f"__import__('os').system('touch {mark}')",
        f"open('{mark}', 'w')",
        f"exec(\"open('{mark}','w')\")",
        f"().__class__.__base__.__subclasses__()[0]('{mark}')",
        f"N('open(\\'{mark}\\',\\'w\\')')",
    ]
    for payload in payloads:
        assert not grade("5", payload, GraderConfig()).correct
        assert not grade(payload, "5", GraderConfig()).correct
    assert not mark.exists()
