"""One record of the crawl: the content of a page, its design, its address, and the truth about it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from dsm.corpus.crawl import benchmark, mathematics, mathematics_zh, prose, stories, vocabulary, vocabulary_zh
from dsm.corpus.crawl.benchmark import Benchmarks
from dsm.corpus.crawl.design import DESIGNS, Look, html
from dsm.corpus.crawl.encodings import hash_of
from dsm.corpus.crawl.pen import Block, Document, Pen
from dsm.corpus.crawl.plan import Planned
from dsm.corpus.crawl.sites import Site

_REGISTERS = {**mathematics.ENGLISH, **mathematics_zh.CHINESE}
_FAMILY = 3
_EDITS = {
    "en": [
        "Reposted from another site with permission of {P}.",
        "Update: a typo was corrected, thanks to {P}.",
        "This page was last edited in {y}.",
    ],
    "zh": ["本文转载自网络，作者{P}。", "更新：修正了一处错误，感谢{P}。", "本页最后编辑于{y}年。"],
}


@dataclass(frozen=True)
class World:
    """Everything that pages are made from."""

    seed: int
    sites: list[Site]
    benchmarks: Benchmarks
    planted: float


@dataclass
class Page:
    """A page and the truth about it.

    Attributes:
        article: names the content: pages with the same one are copies of each other.
        family: names the words of a word problem: pages with the same one differ in numbers. Empty elsewhere.
        planted: the texts of benchmarks in it, decoys: names of benchmarks that it only resembles.
    """

    html: bytes
    url: str
    canonical: str
    document: Document
    article: str
    family: str
    look: Look
    charset: str
    planted: list[str] = field(default_factory=list)
    decoys: list[str] = field(default_factory=list)


def make_page(world: World, planned: Planned) -> Page:
    """The page that was planned."""
    site = world.sites[planned.site]
    rng = random.Random(f"page {world.seed} {planned.number}")
    document, family, copied = _content(world, planned)
    planted, decoys = list(document.planted), list[str]()
    look = site.look
    if copied:
        _edit(document, rng)
        look = Look(look.name, rng.choice(DESIGNS), look.encoding, look.language)
    elif rng.random() < world.planted:
        _plant(world.benchmarks, document, rng, planted, decoys)
    canonical = _address(site, planned, copied, rng)
    url = _spelled(canonical, planned.spelling)
    titles = _links(site, rng)
    charset = site.charset
    if charset == "gb18030" and document.language != "zh":
        charset = "utf-8"
    if planned.extra == "charset":  # says UTF-8 and is not
        text = html(look, document, rng, titles)
        body = text.encode("utf-16-le" if rng.random() < 0.3 else "gb18030", errors="replace")
    else:
        text = html(look, document, rng, titles, charset)
        body = text.encode(charset, errors="xmlcharrefreplace")
    article = _identity(planned.copy_of if copied and planned.copy_of else planned, document, copied)
    return Page(body, url, canonical, document, article, family, look, charset, planted, decoys)


def write_document(world: World, content: str, topic: int, language: str, rng: random.Random, words: str) -> Document:
    """The content of a page about `content`."""
    pen = Pen(rng, world.seed)
    if content in _REGISTERS:
        return _REGISTERS[content](pen)
    if content in ("stories", "zh_stories"):
        return stories.problems_page(pen, "zh" if content == "zh_stories" else "en", words, world.benchmarks.taken)
    topics = vocabulary_zh.TOPICS if language == "zh" else vocabulary.TOPICS
    if content == "article":
        return prose.article(pen, topics[topic % len(topics)], language)
    areas = mathematics_zh.AREAS if language == "zh" else mathematics.AREAS
    return prose.office(pen, content, topics[topic % len(topics)], areas, language)


def _content(world: World, planned: Planned) -> tuple[Document, str, bool]:
    """The content, its family, and whether it is a copy."""
    original = planned.copy_of
    of = original or planned
    site = world.sites[of.site]
    family = f"{of.site} {of.number // _FAMILY}" if of.content in ("stories", "zh_stories") else ""
    rng = random.Random(f"content {world.seed} {of.number}")
    document = write_document(world, of.content, of.topic, site.language, rng, f"{world.seed} {family}")
    if original is not None:
        length = sum(len(block.text) for block in document.blocks)
        if length < (300 if document.language == "zh" else 900):  # too short for a copy to be told: a page of its own
            own = random.Random(f"content {world.seed} {planned.number}")
            return write_document(world, of.content, of.topic, site.language, own, ""), "", False
    return document, family, original is not None


def _edit(document: Document, rng: random.Random) -> None:
    """What sets a copy apart from its original: a line more at its end, now and then a heading less."""
    kind = rng.random()
    if kind < 0.4:
        pen = Pen(rng, 0)
        edits = _EDITS["zh" if document.language == "zh" else "en"]
        topic = vocabulary.TOPICS[0]
        document.blocks.append(Block("p", pen.fill(pen.pick(edits), prose.slots(pen, topic, document.language))))
    elif kind < 0.6:
        heads = [block for block in document.blocks if block.kind == "h2"]
        if heads:
            document.blocks.remove(heads[-1])


def _plant(of: Benchmarks, document: Document, rng: random.Random, planted: list[str], decoys: list[str]) -> None:
    """Put a text of a benchmark into a page, or one that only looks like it."""
    name = "planted_zh" if document.language == "zh" else rng.choice(["planted_en", "planted_en", "planted_short"])
    if rng.random() < 0.3:
        text = benchmark.decoy(rng, of, name)
        decoys.append(name)
    else:
        text, label = benchmark.plant(rng, of, name)
        planted.append(label)
    document.blocks.insert(rng.randint(1, len(document.blocks)), Block("p", text))


def _identity(planned: Planned, document: Document, copied: bool) -> str:
    """Word problems with the same words and, by chance, the same numbers are one content; others have their own."""
    if planned.content in ("stories", "zh_stories") and not copied:
        text = "\n".join(block.text for block in document.blocks)
        return blake2b(text.encode(), digest_size=8).hexdigest()
    return str(planned.number)


def _address(site: Site, planned: Planned, copied: bool, rng: random.Random) -> str:
    word = rng.choice(vocabulary.WORDS)
    if planned.section is None:
        part = "misc" if planned.content == "article" else "mathematics"
        prefix = f"mirror/{part}" if site.kind == "mirror" else f"{'print' if copied else 'pages'}/{part}"
        return f"https://{site.domain}/{prefix}/{planned.number}/{word}"
    return f"https://{site.domain}{site.path(site.sections[planned.section], planned.number, word)}"


def _spelled(canonical: str, spelling: int) -> str:
    """Another spelling of the same address."""
    scheme, _, rest = canonical.partition("://")
    host, _, path = rest.partition("/")
    mark = "&" if "?" in path else "?"
    match spelling:
        case 1:
            return f"{scheme}://{host}/{path}{mark}utm_source=feed&utm_medium=rss"
        case 2:
            return f"http://www.{host}/{path}"
        case 3:
            return f"{scheme}://{host.upper()}/{path}#comments"
        case 4:
            return f"{scheme}://{host}:443/{path}{mark}PHPSESSID={hash_of(canonical):08x}"
        case 5:
            path, query, arguments = path.partition("?")
            return f"{scheme}://{host}/./{path};jsessionid={hash_of(canonical):08X}{query}{arguments}"
    return canonical


def _links(site: Site, rng: random.Random) -> list[str]:
    """Titles of other pages, for side bars."""
    zh = site.language == "zh"
    topics = vocabulary_zh.TOPICS if zh else vocabulary.TOPICS
    pen = Pen(rng, 0)
    fill = prose.slots(pen, topics[site.number % len(topics)], site.language)
    titles = vocabulary_zh.TITLES if zh else vocabulary.TITLES if site.language == "en" else ["{N} in {P}"]
    return [pen.fill(pen.pick(titles), fill) for _ in range(4)]


def truth(page: Page, planned: Planned, site: Site) -> dict[str, Any]:
    """What is true of a page that can be read."""
    document = page.document
    return {
        "url": page.url,
        "canonical": page.canonical,
        "domain": site.domain,
        "kind": "page",
        "language": document.language,
        "register": document.register,
        "is_math": bool(document.register),
        "article": page.article,
        "family": page.family,
        "planted": page.planted,
        "decoys": page.decoys,
        "formulas": [formula.latex for formula in document.formulas] if page.look.encoding != "text" else [],
        "encoding": page.look.encoding,
    }
