"""Chinese pages about mathematics: notes, questions with answers, school exercises. The seed knows none of them."""

from __future__ import annotations

from collections.abc import Callable

from dsm.corpus.crawl.mathematics import exercise
from dsm.corpus.crawl.pen import Block, Document, Pen, words

AREAS = words("代数|几何|概率论|数论|线性代数|微积分|拓扑学|组合数学|统计学|三角函数|数列|解析几何|实变函数")
_THINGS = words(
    "函数|群|环|域|理想|矩阵|向量空间|数列|级数|积分|导数|质数|多项式|子集|同态|算子|范数|测度|随机变量",
    "三角形|圆|排列|极限|集合|映射|曲线|方程|不等式|直线",
)
_LIKE = words("连续|有限|线性|有界|可导|收敛|不可约|开|闭|对称|正|可逆|可测|连通|唯一|单调|凸")
_CLAIMS = [
    "设{f}是{l}的{t}，且{f}。",
    "则{f}成立当且仅当{f}。",
    "每个{l}{t}都是{l}的。",
    "已知{f}，求证{f}。",
    "存在{l}的{t}，使得对任意{f}都有{f}。",
    "若{f}，则{t}{f}是{l}的。",
    "记{f}为由{f}生成的{t}。",
]
_STEPS = [
    "对{f}用数学归纳法，不妨设{f}。",
    "因为{f}是{l}的，所以{f}。",
    "因此{f}，证毕。",
    "将{f}代入方程得{f}。",
    "这与{f}矛盾，故{t}必为{l}。",
    "两边取极限得{f}。",
    "由题意知{f}，从而{f}。",
    "综上所述，{f}。",
]
_ASKS = [
    "请问怎么证明{f}是{l}的？",
    "这道题做到{f}就不会了。",
    "是不是每个{l}的{t}都满足{f}？",
    "求满足{f}的所有{f}。",
    "这是{r}课上的题目，求大神指点。",
    "老师说{f}，但是没有证明。",
]


def _fill(pen: Pen, sources: list[str], low: int, high: int) -> str:
    pick = pen.pick
    slots = {
        "f": pen.math,
        "t": lambda: pick(_THINGS),
        "l": lambda: pick(_LIKE),
        "r": lambda: pick(AREAS),
        "i": pen.number,
    }
    return "".join([pen.fill(pick(sources), slots) for _ in range(pen.rng.randint(low, high))])


def _notes(pen: Pen) -> Document:
    blocks = []
    for number in range(1, pen.rng.randint(2, 5) + 1):
        blocks.append(Block("h2", f"{number}. {pen.pick(AREAS)}"))
        blocks.append(Block("p", f"{pen.pick(['定义', '定理', '例'])}{number}：" + _fill(pen, _CLAIMS, 1, 3)))
        if pen.rng.random() < 0.6:
            blocks.append(Block("math", pen.math("display")))
        blocks.append(Block("p", "证明：" + _fill(pen, _STEPS, 2, 5)))
    return Document(f"{pen.pick(AREAS)}笔记{pen.number()}", blocks, "zh", "zh_notes", pen.formulas)


def _forum(pen: Pen) -> Document:
    blocks = [Block("p", _fill(pen, _ASKS, 1, 3))]
    for _ in range(pen.rng.randint(1, 4)):
        blocks.append(Block("li", _fill(pen, _STEPS + _CLAIMS, 2, 5)))
        if pen.rng.random() < 0.5:
            blocks.append(Block("math", pen.math("display")))
    return Document(_fill(pen, _ASKS, 1, 1), blocks, "zh", "zh_forum", pen.formulas)


def _worksheet(pen: Pen) -> Document:
    blocks = []
    for number in range(1, pen.rng.randint(2, 6) + 1):
        blocks += exercise(pen, f"第{number}题 ", "zh")
    return Document(f"数学练习题（{pen.number()}）", blocks, "zh", "zh_worksheet", pen.formulas)


CHINESE: dict[str, Callable[[Pen], Document]] = {
    "zh_notes": _notes,
    "zh_forum": _forum,
    "zh_worksheet": _worksheet,
}
