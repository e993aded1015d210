"""The templates of the word problems: one function a kind, which tells a `Story` with a given number of steps.

A template draws its numbers and raises `Redraw` (or lets `Story.step` raise it) where they make no proper problem.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from dsm.data.problem_story import Redraw, Scale, Story, Text

Template = Callable[[Story, int], None]
TEMPLATES: dict[str, tuple[Template, int, int]] = {}  # kind -> (template, fewest steps, most steps)


def _template(low: int, high: int) -> Callable[[Template], Template]:
    def register(function: Template) -> Template:
        TEMPLATES[function.__name__.lstrip("_")] = (function, low, high)
        return function

    return register


def tell(kind: str, n_steps: int, rng: random.Random, scale: Scale) -> Story:
    """Draw until the template accepts its numbers: kinds with strict rules must not become rare."""
    template = TEMPLATES[kind][0]
    while True:
        story = Story(rng, scale)
        try:
            template(story, n_steps)
        except Redraw:
            continue
        return story


@_template(1, 3)
def _inventory(s: Story, n: int) -> None:
    (who, friend), thing, have = s.names(2), s.thing(), s.term()
    s.say(f"{who.en} has {have} {thing.en}.", f"{who.zh}有{have}个{thing.zh}。")
    for _ in range(n):
        k = s.term()
        op = s.rng.choice("+-")
        if op == "+":
            s.say(f"{who.en} buys {k} more.", f"{who.zh}又买了{k}个。")
        else:
            s.say(f"{who.en} gives {k} to {friend.en}.", f"{who.zh}送给{friend.zh}{k}个。")
        have = s.step("have", have, op, k, f"{who.en} has @ {thing.en}.", f"{who.zh}有 @ 个{thing.zh}。")
    s.say(f"How many {thing.en} does {who.en} have now?", f"{who.zh}现在有多少个{thing.zh}？")


@_template(1, 3)
def _shopping(s: Story, n: int) -> None:
    (who,), thing, count, price = s.names(1), s.thing(), s.small(), s.factor()
    s.say(
        f"{who.en} buys {count} {thing.en} at {price} dollars each.",
        f"{who.zh}买了{count}个{thing.zh}，每个{price}元。",
    )
    total = s.step("cost", count, "*", price, f"The {thing.en} cost @ dollars.", f"{thing.zh}一共 @ 元。")
    change = n == 3 or (n == 2 and s.flip())
    if n == 3 or (n == 2 and not change):
        bag = s.term()
        s.say(f"{who.en} also buys a bag for {bag} dollars.", f"{who.zh}还买了一个{bag}元的书包。")
        total = s.step("total", total, "+", bag, "The total is @ dollars.", "总价是 @ 元。")
    if change:
        bill = s.bill(total)
        s.say(f"{who.en} pays with {bill} dollars.", f"{who.zh}付了{bill}元。")
        s.step("change", bill, "-", total, "The change is @ dollars.", "找回 @ 元。")
        s.say(f"How many dollars does {who.en} get back?", f"应找回{who.zh}多少元？")
    else:
        s.say(f"How many dollars does {who.en} spend?", f"{who.zh}一共花了多少元？")


@_template(1, 3)
def _travel(s: Story, n: int) -> None:
    what = s.rng.choice([Text("train", "列火车"), Text("bus", "辆客车"), Text("car", "辆汽车"), Text("ship", "艘轮船")])
    speed, hours, more = s.large(), s.small(), s.term()
    s.say(
        f"A {what.en} goes {speed} km per hour for {hours} hours.", f"一{what.zh}每小时行{speed}千米，行了{hours}小时。"
    )
    total = s.step("distance", speed, "*", hours, f"The {what.en} goes @ km.", "行了 @ 千米。")
    if n >= 2:
        s.say(f"Then it goes {more} km more.", f"然后又行了{more}千米。")
        total = s.step("total", total, "+", more, "In all it goes @ km.", "一共行了 @ 千米。")
    if n == 3:
        trip = total + s.term()
        s.say(f"The trip is {trip} km long.", f"全程{trip}千米。")
        s.step("left", trip, "-", total, "There are @ km left.", "还剩 @ 千米。")
        s.say("How many km are left?", "还剩多少千米？")
    else:
        s.say("How many km does it go in all?", "一共行了多少千米？")


@_template(1, 3)
def _sharing(s: Story, n: int) -> None:
    (who,), thing, friends, each, more, had = s.names(1), s.thing(), s.small(), s.factor(), s.term(), s.term()
    total = friends * each
    first = total - more if n == 3 else total
    if first < 2:
        raise Redraw
    s.say(f"{who.en} has {first} {thing.en}.", f"{who.zh}有{first}个{thing.zh}。")
    if n == 3:
        s.say(f"{who.en} buys {more} more.", f"{who.zh}又买了{more}个。")
        total = s.step("total", first, "+", more, f"{who.en} has @ {thing.en}.", f"{who.zh}有 @ 个{thing.zh}。")
    s.say(f"{who.en} shares them equally among {friends} friends.", f"{who.zh}把它们平均分给{friends}个朋友。")
    got = s.step("each", total, "/", friends, f"Each friend gets @ {thing.en}.", f"每个朋友分到 @ 个{thing.zh}。")
    if n >= 2:
        s.say(f"Each friend already had {had}.", f"每个朋友原来有{had}个。")
        s.step("now", got, "+", had, f"Each friend now has @ {thing.en}.", f"每个朋友现在有 @ 个{thing.zh}。")
        s.say(f"How many {thing.en} does each friend have now?", f"每个朋友现在有多少个{thing.zh}？")
    else:
        s.say(f"How many {thing.en} does each friend get?", f"每个朋友分到多少个{thing.zh}？")


@_template(1, 3)
def _ages(s: Story, n: int) -> None:
    (a, b, c), age, older, younger, years = s.names(3), s.rng.randint(4, 40), s.small(), s.small(), s.small()
    s.say(f"{a.en} is {age} years old.", f"{a.zh}今年{age}岁。")
    s.say(f"{b.en} is {older} years older than {a.en}.", f"{b.zh}比{a.zh}大{older}岁。")
    who, now = b, s.step("age", age, "+", older, f"{b.en} is @ years old.", f"{b.zh}今年 @ 岁。")
    if n >= 2:
        s.say(f"{c.en} is {younger} years younger than {b.en}.", f"{c.zh}比{b.zh}小{younger}岁。")
        who, now = c, s.step("other", now, "-", younger, f"{c.en} is @ years old.", f"{c.zh}今年 @ 岁。")
    if n == 3:
        text = f"In {years} years {who.en} will be @ years old.", f"{years}年后{who.zh} @ 岁。"
        s.step("later", now, "+", years, *text)
        s.say(f"How old will {who.en} be in {years} years?", f"{years}年后{who.zh}多少岁？")
    else:
        s.say(f"How old is {who.en}?", f"{who.zh}今年多少岁？")


@_template(1, 3)
def _percent(s: Story, n: int) -> None:
    thing, (percent, divisor), more = s.thing(), s.rng.choice([(10, 10), (20, 5), (25, 4), (50, 2)]), s.term()
    total = divisor * s.factor()
    s.say(f"A shop has {total} {thing.en}.", f"商店有{total}个{thing.zh}。")
    s.say(f"It sells {percent}% of them.", f"卖出了{percent}%。")
    sold = s.step("sold", total, "/", divisor, f"It sells @ {thing.en}.", f"卖出 @ 个{thing.zh}。")
    if n == 1:
        s.say(f"How many {thing.en} does it sell?", f"卖出了多少个{thing.zh}？")
        return
    left = s.step("left", total, "-", sold, f"There are @ {thing.en} left.", f"还剩 @ 个{thing.zh}。")
    if n == 3:
        s.say(f"Then {more} more arrive.", f"后来又运来{more}个。")
        s.step("now", left, "+", more, f"The shop now has @ {thing.en}.", f"商店现在有 @ 个{thing.zh}。")
    s.say(f"How many {thing.en} does the shop have now?", f"商店现在有多少个{thing.zh}？")


@_template(1, 3)
def _rectangle(s: Story, n: int) -> None:
    place = s.rng.choice([Text("garden", "花园"), Text("yard", "院子"), Text("field", "菜地"), Text("park", "公园")])
    width, length, price = s.small(), s.factor(), s.small()
    if length <= width:
        raise Redraw
    s.say(
        f"A rectangular {place.en} is {length} m long and {width} m wide.",
        f"一个长方形{place.zh}长{length}米，宽{width}米。",
    )
    if n == 1:
        s.step("area", length, "*", width, "The area is @ square metres.", "面积是 @ 平方米。")
        s.say("What is its area in square metres?", "它的面积是多少平方米？")
        return
    half = s.step("half", length, "+", width, "Half the perimeter is @ m.", "周长的一半是 @ 米。")
    around = s.step("perimeter", half, "*", 2, "The perimeter is @ m.", "周长是 @ 米。")
    if n == 3:
        s.say(f"A fence costs {price} dollars per metre.", f"围栏每米{price}元。")
        s.step("cost", around, "*", price, "The fence costs @ dollars.", "围栏一共 @ 元。")
        s.say(f"How many dollars does a fence around the {place.en} cost?", f"把{place.zh}围一圈要多少元？")
    else:
        s.say("What is its perimeter in metres?", "它的周长是多少米？")


@_template(1, 3)
def _fraction(s: Story, n: int) -> None:
    (who, friend), thing, parts, eaten = s.names(2), s.thing(), s.small(), s.small()
    total = parts * s.factor()
    s.say(f"{who.en} finds {total} {thing.en}.", f"{who.zh}找到{total}个{thing.zh}。")
    s.say(f"{who.en} gives 1/{parts} of them to {friend.en}.", f"{who.zh}把其中的1/{parts}送给{friend.zh}。")
    given = s.step("given", total, "/", parts, f"{friend.en} gets @ {thing.en}.", f"{friend.zh}得到 @ 个{thing.zh}。")
    if n == 1:
        s.say(f"How many {thing.en} does {friend.en} get?", f"{friend.zh}得到多少个{thing.zh}？")
        return
    left = s.step("left", total, "-", given, f"{who.en} has @ {thing.en} left.", f"{who.zh}还剩 @ 个{thing.zh}。")
    if n == 3:
        s.say(f"{who.en} loses {eaten} more.", f"{who.zh}又丢了{eaten}个。")
        s.step("end", left, "-", eaten, f"Then {who.en} has @ {thing.en}.", f"最后{who.zh}有 @ 个{thing.zh}。")
    s.say(f"How many {thing.en} does {who.en} have left?", f"{who.zh}还剩多少个{thing.zh}？")


@_template(1, 2)
def _remainder(s: Story, n: int) -> None:
    (who,), thing, total, size, more = s.names(1), s.thing(), s.term(), s.small(), s.term()
    s.say(f"{who.en} has {total} {thing.en}.", f"{who.zh}有{total}个{thing.zh}。")
    if n == 2:
        s.say(f"{who.en} buys {more} more.", f"{who.zh}又买了{more}个。")
        total = s.step("total", total, "+", more, f"{who.en} has @ {thing.en}.", f"{who.zh}有 @ 个{thing.zh}。")
    s.say(f"{who.en} fills bags with {size} {thing.en} each.", f"{who.zh}每袋装{size}个。")
    if s.flip():
        s.step("rest", total, "%", size, "Packing: @.", "装袋：@。")
        s.say(f"How many {thing.en} are left over?", f"最后剩下多少个{thing.zh}？")
    else:
        s.step("bags", total, "//", size, "Packing: @.", "装袋：@。")
        s.say("How many full bags are there?", "装满了多少袋？")


@_template(1, 3)
def _compare(s: Story, n: int) -> None:
    (a, b), thing, lost = s.names(2), s.thing(), s.small()
    op = s.rng.choice("+-*")
    have, k = (s.factor(), s.small()) if op == "*" else (s.term(), s.term())
    s.say(f"{a.en} has {have} {thing.en}.", f"{a.zh}有{have}个{thing.zh}。")
    relation = {
        "+": Text(f"{k} more than {a.en}", f"比{a.zh}多{k}个"),
        "-": Text(f"{k} fewer than {a.en}", f"比{a.zh}少{k}个"),
        "*": Text(f"{k} times as many as {a.en}", f"的个数是{a.zh}的{k}倍"),
    }[op]
    s.say(f"{b.en} has {relation.en}.", f"{b.zh}{relation.zh}。")
    other = s.step("other", have, op, k, f"{b.en} has @ {thing.en}.", f"{b.zh}有 @ 个{thing.zh}。")
    if n == 1:
        s.say(f"How many {thing.en} does {b.en} have?", f"{b.zh}有多少个{thing.zh}？")
        return
    both = s.step("both", have, "+", other, f"Together they have @ {thing.en}.", f"他们一共有 @ 个{thing.zh}。")
    if n == 3:
        s.say(f"They lose {lost}.", f"他们丢了{lost}个。")
        s.step("left", both, "-", lost, f"Then they have @ {thing.en}.", f"后来他们有 @ 个{thing.zh}。")
    s.say(f"How many {thing.en} do they have together now?", f"他们现在一共有多少个{thing.zh}？")


@_template(1, 3)
def _boxes(s: Story, n: int) -> None:
    (who,), thing, boxes, each, loose, broken = s.names(1), s.thing(), s.small(), s.factor(), s.term(), s.small()
    s.say(
        f"{who.en} has {boxes} boxes with {each} {thing.en} in each.",
        f"{who.zh}有{boxes}盒{thing.zh}，每盒{each}个。",
    )
    have = s.step("boxed", boxes, "*", each, f"The boxes hold @ {thing.en}.", f"盒里有 @ 个{thing.zh}。")
    breaks = n == 3 or (n == 2 and s.flip())
    if n == 3 or (n == 2 and not breaks):
        s.say(f"There are also {loose} loose {thing.en}.", f"另外还有{loose}个。")
        have = s.step("have", have, "+", loose, f"In all there are @ {thing.en}.", f"一共有 @ 个{thing.zh}。")
    if breaks:
        s.say(f"{who.en} sells {broken} {thing.en}.", f"{who.zh}卖掉{broken}个。")
        s.step("left", have, "-", broken, f"There are @ {thing.en} left.", f"还剩 @ 个{thing.zh}。")
    s.say(f"How many {thing.en} does {who.en} have now?", f"{who.zh}现在有多少个{thing.zh}？")


@_template(1, 3)
def _savings(s: Story, n: int) -> None:
    (who,), weeks, rate, had = s.names(1), s.small(), s.factor(), s.term()
    if n >= 2:
        s.say(f"{who.en} has {had} dollars.", f"{who.zh}有{had}元。")
    s.say(f"{who.en} saves {rate} dollars a week for {weeks} weeks.", f"{who.zh}每周存{rate}元，存了{weeks}周。")
    saved = s.step("saved", rate, "*", weeks, f"{who.en} saves @ dollars.", f"{who.zh}存了 @ 元。")
    if n == 1:
        s.say(f"How many dollars does {who.en} save?", f"{who.zh}一共存了多少元？")
        return
    total = s.step("total", had, "+", saved, f"{who.en} then has @ dollars.", f"{who.zh}现在有 @ 元。")
    if n == 3:
        price = total + s.term()
        s.say(f"A bike costs {price} dollars.", f"一辆自行车{price}元。")
        s.step("missing", price, "-", total, f"{who.en} needs @ dollars more.", f"{who.zh}还差 @ 元。")
        s.say(f"How many more dollars does {who.en} need?", f"{who.zh}还差多少元？")
    else:
        s.say(f"How many dollars does {who.en} have now?", f"{who.zh}现在有多少元？")


@_template(1, 2)
def _before(s: Story, n: int) -> None:
    (who, friend), thing, left, given, bought = s.names(2), s.thing(), s.term(), s.term(), s.term()
    if n == 2:
        s.say(
            f"{who.en} had some {thing.en} and bought {bought} more.", f"{who.zh}有一些{thing.zh}，又买了{bought}个。"
        )
    else:
        s.say(f"{who.en} had some {thing.en}.", f"{who.zh}有一些{thing.zh}。")
    s.say(
        f"After giving {given} to {friend.en}, {who.en} has {left}.",
        f"送给{friend.zh}{given}个后，{who.zh}还有{left}个。",
    )
    text = f"Before giving, {who.en} had @ {thing.en}.", f"送出之前{who.zh}有 @ 个{thing.zh}。"
    had = s.step("had", left, "+", given, *text)
    if n == 2:
        s.step("start", had, "-", bought, f"At first {who.en} had @ {thing.en}.", f"最初{who.zh}有 @ 个{thing.zh}。")
    s.say(f"How many {thing.en} did {who.en} have at first?", f"{who.zh}最初有多少个{thing.zh}？")


@_template(2, 3)
def _average(s: Story, n: int) -> None:
    (who,), thing, mean = s.names(1), s.thing(), s.term()
    counts = [s.term() for _ in range(n - 1)]
    counts.append(mean * n - sum(counts))
    if counts[-1] < 2:
        raise Redraw
    listed = ", ".join(str(count) for count in counts[:-1]) + f" and {counts[-1]}"
    listed_zh = "、".join(map(str, counts))
    s.say(f"In {n} days {who.en} sells {listed} {thing.en}.", f"{who.zh}{n}天分别卖出{listed_zh}个{thing.zh}。")
    total = counts[0]
    for count in counts[1:]:
        total = s.step("total", total, "+", count, f"The sum is @ {thing.en}.", f"加起来是 @ 个{thing.zh}。")
    s.step("mean", total, "/", n, f"The average is @ {thing.en}.", f"平均是 @ 个{thing.zh}。")
    s.say(f"How many {thing.en} is that per day on average?", f"平均每天卖出多少个{thing.zh}？")


@_template(1, 3)
def _rate(s: Story, n: int) -> None:
    thing, rate, first, second, warm_up = s.thing(), s.small(), s.term(), s.term(), s.small()
    s.say(f"A machine makes {rate} {thing.en} per minute.", f"一台机器每分钟做{rate}个{thing.zh}。")
    if n == 3:
        s.say(
            f"It has to make {first} {thing.en} and then {second} more.",
            f"它要先做{first}个{thing.zh}，再做{second}个。",
        )
        total: int = s.step("total", first, "+", second, f"It makes @ {thing.en}.", f"一共做 @ 个{thing.zh}。")
    else:
        total = rate * s.factor()
        s.say(f"It has to make {total} {thing.en}.", f"它要做{total}个{thing.zh}。")
    time = s.step("minutes", total, "/", rate, "That takes @ minutes.", "要做 @ 分钟。")
    if n >= 2:
        s.say(f"Before that it warms up for {warm_up} minutes.", f"开工前要预热{warm_up}分钟。")
        s.step("all_minutes", time, "+", warm_up, "With the warm-up it takes @ minutes.", "加上预热共 @ 分钟。")
    s.say("How many minutes does it take in all?", "一共要多少分钟？")


@_template(1, 3)
def _unit_price(s: Story, n: int) -> None:
    (who,), thing, count, price, wanted = s.names(1), s.thing(), s.small(), s.factor(), s.small()
    if wanted == count:
        raise Redraw
    s.say(f"{count} {thing.en} cost {count * price} dollars.", f"{count}个{thing.zh}{count * price}元。")
    each = s.step("each", count * price, "/", count, "Each costs @ dollars.", "每个 @ 元。")
    if n == 1:
        s.say("How many dollars does each cost?", f"每个{thing.zh}多少元？")
        return
    s.say(f"{who.en} buys {wanted}.", f"{who.zh}买了{wanted}个。")
    cost = s.step("cost", each, "*", wanted, f"{who.en} spends @ dollars.", f"{who.zh}花了 @ 元。")
    if n == 3:
        bill = s.bill(cost)
        s.say(f"{who.en} pays with {bill} dollars.", f"{who.zh}付了{bill}元。")
        s.step("change", bill, "-", cost, "The change is @ dollars.", "找回 @ 元。")
        s.say(f"How many dollars does {who.en} get back?", f"应找回{who.zh}多少元？")
    else:
        s.say(f"How many dollars does {who.en} spend?", f"{who.zh}花了多少元？")
