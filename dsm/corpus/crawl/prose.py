"""Pages that are not about mathematics: articles, comments, profiles, offers, in English, Chinese and some German."""

from __future__ import annotations

from dsm.corpus.crawl import stories
from dsm.corpus.crawl import vocabulary as english
from dsm.corpus.crawl import vocabulary_zh as chinese
from dsm.corpus.crawl.pen import Block, Document, Pen, Slots
from dsm.corpus.crawl.vocabulary import Topic


def slots(pen: Pen, topic: Topic, language: str) -> Slots:
    """What the sentences of a topic are filled with."""
    words = chinese if language == "zh" else english
    pick = pen.pick
    return {
        "n": lambda: pick(topic.nouns),
        "v": lambda: pick(topic.verbs),
        "a": lambda: pick(topic.adjectives),
        "w": lambda: pick(words.WHEN),
        "k": lambda: pick(english.WORDS),
        "i": pen.number,
        "y": pen.year,
        "P": pen.name if language != "zh" else lambda: pick(chinese.NAMES) + pick(chinese.GIVEN),
        "N": lambda: pick(english.GERMAN_NOUNS),
        "A": lambda: pick(english.GERMAN_ADJECTIVES),
    }


def paragraph(pen: Pen, fill: Slots, language: str, sentences: int) -> str:
    """So many sentences of a topic."""
    source = {"zh": chinese.SENTENCES, "other": english.GERMAN}.get(language, english.SENTENCES)
    joint = "" if language == "zh" else " "
    return joint.join([pen.fill(pen.pick(source), fill) for _ in range(sentences)])


_CODE = [
    "for i in range({i}):\n    x[i] = a[i] * {i} + b[i]\nprint(sum(x) / n)",
    "$total = $price * {i};\nif ($total >= {i}) { echo $total; }",
    "int f(int n) { return n <= {i} ? n : f(n - 1) + f(n - 2); }",
    "export PATH=$PATH:$HOME/bin && make -j{i}",
    "SELECT name, COUNT(*) FROM t WHERE x > {i} GROUP BY name",
]
_LAWS = [
    "With {f} and {f} the {n} was {a}.",
    "The {n} contains {f}, as {P} measured {w}.",
    "At {f} the {a} {n} reacts with {f}.",
    "Everybody knows {f}, but few know the {n} behind it.",
]


def _everyday(pen: Pen, language: str) -> str:
    """What a word problem tells, but nobody asks anything."""
    told = stories.story(f"everyday {pen.rng.random()}", pen.rng).question(language)
    return told[: told.rfind("。" if language == "zh" else ". ") + 1]


def _extra(pen: Pen, topic: Topic, language: str, fill: Slots) -> list[Block]:
    """What makes some articles look like mathematics: code, laws of nature, prices, people with so many apples."""
    chance = pen.rng.random()
    if topic.name in ("programming", "科技") and chance < 0.6:
        return [Block("pre", pen.fill(pen.pick(_CODE), fill)) for _ in range(pen.rng.randint(1, 3))]
    if topic.name == "science-news" and chance < 0.7:
        slots = {**fill, "f": lambda: pen.math("science")}
        return [Block("p", " ".join(pen.fill(pen.pick(_LAWS), slots) for _ in range(pen.rng.randint(2, 6))))]
    if topic.name in ("parenting", "pets", "cooking", "教育", "美食") and chance < 0.5:
        return [Block("p", "".join(_everyday(pen, language) for _ in range(pen.rng.randint(1, 4))))]
    if topic.name in ("fashion", "finance", "cars") and chance < 0.4:
        return [Block("p", f"Only ${pen.number()}.99 instead of ${pen.number()}, or ${pen.number()} a month.")]
    return []


def article(pen: Pen, topic: Topic, language: str) -> Document:
    """A page of a site about something else, sometimes with comments."""
    fill, rng = slots(pen, topic, language), pen.rng
    titles = {"zh": chinese.TITLES, "other": ["{N} in {P}"]}.get(language, english.TITLES)
    blocks: list[Block] = []
    for _ in range(rng.randint(2, 7)):
        if rng.random() < 0.3:
            blocks.append(Block("h2", pen.fill(pen.pick(titles), fill)))
        blocks.append(Block("p", paragraph(pen, fill, language, rng.randint(2, 7))))
    if language != "other":
        blocks[1:1] = _extra(pen, topic, language, fill)
    if rng.random() < 0.3 and language != "other":
        comments = chinese.COMMENTS if language == "zh" else english.COMMENTS
        blocks += [Block("li", pen.fill(pen.pick(comments), fill)) for _ in range(rng.randint(1, 5))]
    return Document(pen.fill(pen.pick(titles), fill), blocks, language, formulas=pen.formulas)


_OFFICE = {
    "users": (
        [
            "{P} is a member since {y}.",
            "Reputation {i}, {i} answers, {i} questions.",
            "Top tags: {m}, {m}, {m}.",
            "I teach {m} at a {k} school in {P}.",
            "Last seen {i} days ago.",
            "Badges: {i} gold, {i} silver, {i} bronze.",
            "Interested in {m}, {n} and {n}.",
        ],
        [
            "{P}，{y}年加入。",
            "声望{i}，回答{i}个，提问{i}个。",
            "常用标签：{m}、{m}。",
            "我在{P}教{m}。",
            "最近登录：{i}天前。",
            "喜欢{m}、{n}和{n}。",
        ],
    ),
    "jobs": (
        [
            "We are looking for a {a} teacher of {m} in {P}.",
            "The position starts in {y} and pays {i} dollars a day.",
            "You have a degree in {m} or a related field.",
            "Applicants send their letter to {P} within {i} days.",
            "Experience with {n} and {n} is a plus.",
            "Our group of {i} people works on {m} and {m}.",
            "The {n} is {a}; the team is {a} too.",
        ],
        [
            "{P}招聘{m}老师，要求{a}。",
            "月薪{i}百元，{y}年到岗。",
            "本科以上学历，{m}专业优先。",
            "请在{i}天内投递简历。",
            "有{n}经验者优先。",
        ],
    ),
    "news": (
        [
            "The {P} prize for {m} goes to {P} of {P}.",
            "The conference on {m} takes place in {P} in {y}.",
            "About {i} people took part in the {n}.",
            "The {n} of our site has {a} news: registration is open.",
            "{P} gave a talk on the history of {m}.",
            "We {v} the {n} {w}.",
        ],
        [
            "{y}年{m}奖授予{P}。",
            "{m}会议将于{y}年举行。",
            "约有{i}人参加了{n}。",
            "本站公告：{n}{w}更新。",
            "{P}作了关于{m}历史的报告。",
        ],
    ),
    "store": (
        [
            "This textbook on {m} costs {i} dollars.",
            "Ships within {i} days, free from {i} dollars.",
            "{i} customers found it {a}.",
            "Also available: a calculator with {i} functions.",
            "Condition: {a}, {i} pages, printed in {y}.",
            "Customers who bought {m} also bought {m} and a {n}.",
        ],
        [
            "《{m}》教材，售价{i}元。",
            "{i}天内发货，满{i}元包邮。",
            "{i}位买家认为{a}。",
            "另有计算器，{i}种功能。",
            "{y}年印刷，共{i}页，成色{a}。",
        ],
    ),
}
OFFICES = list(_OFFICE)
"""What a mathematical site has besides mathematics."""


def office(pen: Pen, kind: str, topic: Topic, areas: list[str], language: str) -> Document:
    """A page about the people and the business of a mathematical site: its words, but no mathematics."""
    fill = {**slots(pen, topic, language), "m": lambda: pen.pick(areas)}
    sentences = _OFFICE[kind][language == "zh"]
    blocks = []
    for _ in range(pen.rng.randint(2, 5)):
        texts = [pen.fill(pen.pick(sentences), fill) for _ in range(pen.rng.randint(2, 6))]
        if pen.rng.random() < 0.5:
            texts.append(paragraph(pen, fill, language, 2))
        blocks.append(Block("p", ("" if language == "zh" else " ").join(texts)))
    return Document(pen.fill("{P}" if kind == "users" else sentences[0], fill), blocks, language)
