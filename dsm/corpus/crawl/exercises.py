"""School exercises with their steps worked out, in English and Chinese: every line of them is right."""

from __future__ import annotations

import math
from collections.abc import Callable

from dsm.corpus.crawl.formulas import Node, latex, row
from dsm.corpus.crawl.pen import Formula, Pen

Exercise = Callable[[Pen, str], list[str]]


def _keep(pen: Pen, *parts: Node) -> str:
    node = row(*parts)
    return pen.keep(Formula(node, latex(node)))


def _equation(pen: Pen, language: str) -> list[str]:
    rng, x = pen.rng, pen.pick(["x", "y", "n", "t"])
    a, b, value = rng.randint(2, 12), rng.randint(2, 60), rng.randint(2, 15)
    whole = _keep(pen, str(a), x, "+", str(b), "=", str(a * value + b))
    less = _keep(pen, str(a), x, "=", str(a * value))
    found = _keep(pen, x, "=", str(value))
    if language == "zh":
        return [f"解方程：{whole}。", f"两边同时减去{b}，得{less}。", f"两边同时除以{a}，得{found}。"]
    return [
        f"Solve for {x}: {whole}.",
        f"Subtract {b} from both sides: {less}.",
        f"Divide both sides by {a}: {found}.",
    ]


def _fractions(pen: Pen, language: str) -> list[str]:
    rng = pen.rng
    b, d = rng.sample(range(2, 13), 2)
    a, c = rng.randint(1, b - 1), rng.randint(1, d - 1)
    common = math.lcm(b, d)
    top = a * (common // b) + c * (common // d)
    task = _keep(pen, ("frac", str(a), str(b)), "+", ("frac", str(c), str(d)))
    first, second = (("frac", str(n), str(common)) for n in (a * common // b, c * common // d))
    result = _keep(pen, first, "+", second, "=", ("frac", str(top), str(common)))
    if language == "zh":
        return [f"计算：{task}。", f"公分母是{common}。", f"所以{result}。"]
    return [f"Add the fractions {task}.", f"The common denominator is {common}.", f"So {result}."]


def _percentage(pen: Pen, language: str) -> list[str]:
    rng = pen.rng
    percent, base = rng.choice([5, 10, 15, 20, 25, 30, 40, 60, 75]), 20 * rng.randint(2, 60)
    result = percent * base // 100
    line = _keep(pen, ("frac", str(percent), "100"), r"\times", str(base), "=", str(result))
    if language == "zh":
        return [f"{base}的{percent}%是多少？", f"{line}。", f"答：{result}。"]
    return [f"What is {percent}% of {base}?", f"Write the percentage as a fraction: {line}.", f"Answer: {result}."]


def _value(pen: Pen, language: str) -> list[str]:
    rng = pen.rng
    a, b, x = rng.randint(2, 9), rng.randint(2, 30), rng.randint(2, 9)
    rule = _keep(pen, "f ( x ) =", str(a), ("sup", "x", "2"), "+", str(b))
    result = _keep(pen, "f (", str(x), ") =", str(a), r"\cdot", str(x * x), "+", str(b), "=", str(a * x * x + b))
    if language == "zh":
        return [f"已知{rule}，求当自变量等于{x}时的函数值。", f"代入得{result}。"]
    return [f"Evaluate {rule} at {x}.", f"Put {x} into the formula: {result}."]


def _rectangle(pen: Pen, language: str) -> list[str]:
    rng = pen.rng
    a, b = rng.randint(2, 40), rng.randint(2, 40)
    area = _keep(pen, str(a), r"\times", str(b), "=", str(a * b))
    around = _keep(pen, "2", r"\times", "(", str(a), "+", str(b), ") =", str(2 * (a + b)))
    if language == "zh":
        return [f"长方形的长是{a}厘米，宽是{b}厘米，求面积和周长。", f"面积：{area}。", f"周长：{around}。"]
    task = f"A rectangle has sides {a} cm and {b} cm. Find its area and perimeter."
    return [task, f"Area: {area}.", f"Perimeter: {around}."]


EXERCISES: list[Exercise] = [_equation, _fractions, _percentage, _value, _rectangle]
