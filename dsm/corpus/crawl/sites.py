"""The sites of the crawl: what each has under which path, in which design, language and encoding of formulas.

Mathematical sites come in kinds that make the mining loop work for its recall:

- core: what the seed looks like (questions, forums, notes, an encyclopaedia), beside profiles, offers and news;
- bridge: some pages like the seed's, more in registers that the seed does not know (worksheets, blogs, word problems):
  found by its domain's share, and whoever accepts its paths teaches the classifier these registers;
- bridge_zh: English worksheets and word problems, and the same things in Chinese: the next step of the same kind;
- host: users with a folder each, of whom some write about mathematics: paths to be split;
- far: sites that hold nothing but registers unknown to the seed; only a later round's classifier finds them;
- mirror: copies of other sites' pages.

All others are about something else, with a stray page of mathematics now and then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from dsm.corpus.crawl import vocabulary, vocabulary_zh
from dsm.corpus.crawl.design import DESIGNS, Look
from dsm.corpus.crawl.encodings import MARKED
from dsm.corpus.crawl.mathematics import SEED_REGISTERS
from dsm.corpus.crawl.pen import words
from dsm.corpus.crawl.prose import OFFICES

Kind = Literal["core", "bridge", "bridge_zh", "host", "far_en", "far_zh", "mirror", "general"]
_SHARES: dict[Kind, float] = {  # of the domains
    "core": 0.08,
    "bridge": 0.05,
    "bridge_zh": 0.04,
    "host": 0.02,
    "far_en": 0.04,
    "far_zh": 0.05,
    "mirror": 0.02,
}
PLAIN_ENGLISH = ("worksheet", "stories", "blog")
CHINESE = ("zh_notes", "zh_forum", "zh_worksheet", "zh_stories")
_TYPED: dict[Kind, float] = {"core": 0.0, "bridge": 0.0, "bridge_zh": 1.0, "far_en": 0.7, "far_zh": 0.8}
"""Share of the sites whose formulas are typed as plain text, which the seed has not seen."""
STRAY = 0.012
"""Share of mathematics on a site that is about something else."""

_FIRST = words("prime|lemma|proof|axiom|vector|cosine|euler|gauss|abacus|sigma|tangent|integer|chalk|theta|number")
_FIRST_ZH = words("shuxue|daishu|jihe|suanshu|aoshu|gongshi|zhongkao|tiku")
_LAST = words("hub|desk|lounge|corner|school|board|notes|online|central|lab|wiki|world|guide|base|point|house")
_PATHS = {
    "qa": "questions",
    "forum": "community/topics",
    "notes": "notes",
    "encyclopaedia": "wiki",
    "blog": "blog",
    "worksheet": "practice",
    "stories": "word-problems",
    "zh_notes": "biji",
    "zh_forum": "wenda",
    "zh_worksheet": "lianxi",
    "zh_stories": "yingyongti",
}


@dataclass(frozen=True)
class Section:
    """A part of a site.

    Attributes:
        prefix: of the path, without slashes at its ends.
        content: a register of mathematics, a kind of office page, or "article".
        weight: share of the site's pages.
        topic: of articles, and of what else office pages mention.
    """

    prefix: str
    content: str
    weight: float
    topic: int = 0

    @property
    def is_math(self) -> bool:
        """Is it mathematics?"""
        return self.content in _PATHS


@dataclass(frozen=True)
class Site:
    """One domain."""

    number: int
    domain: str
    kind: Kind
    look: Look
    sections: tuple[Section, ...]
    weight: float
    stray: tuple[str, ...]
    charset: str
    address: int

    @property
    def language(self) -> str:
        """What most of it is written in."""
        return self.look.language

    def path(self, section: Section, number: int, word: str) -> str:
        """The address of a page, without the domain."""
        prefix = section.prefix
        forms = (
            f"/{prefix}/{number}/{word}",
            f"/{prefix}/{word}-{number}.html",
            f"/{prefix}/view.php?id={number}&lang={self.language}",
            f"/{prefix}/{2012 + number % 12}/{1 + number % 12:02}/{word}-{number}",
        )
        return forms[self.address]


def draw_sites(domains: int, seed: int) -> list[Site]:
    """All sites; `domains` of them."""
    rng = random.Random(f"sites {seed}")
    kinds: list[Kind] = []
    for kind, share in _SHARES.items():
        kinds += [kind] * max(1, round(share * domains))
    kinds += ["general"] * (domains - len(kinds))
    taken: set[str] = set()
    return [_draw(rng, number, kind, taken) for number, kind in enumerate(kinds)]


def rules(sites: list[Site]) -> list[str]:
    """What an annotator who knows the truth would decide: `domain/prefix`, with `!` before what is rejected."""
    lines = []
    for site in sites:
        if site.kind == "general":
            lines.append(f"!{site.domain}")
        elif site.kind == "mirror":
            lines += [f"{site.domain}/mirror/mathematics", f"!{site.domain}/mirror/misc"]
        else:
            lines += [f"{'' if one.is_math else '!'}{site.domain}/{one.prefix}" for one in site.sections]
    return lines


def _draw(rng: random.Random, number: int, kind: Kind, taken: set[str]) -> Site:
    language = "zh" if kind == "far_zh" else "en"
    if kind == "general":
        language = rng.choices(["en", "zh", "other"], [0.7, 0.25, 0.05])[0]
    domain = _domain(rng, kind, language, taken)
    encoding = MARKED[number % len(MARKED)]  # all of them occur in every kind that has enough sites
    if rng.random() < _TYPED.get(kind, 0.1):
        encoding = "text"
    look = Look(_title(domain), rng.choice(DESIGNS), encoding, language)
    charset = "gb18030" if language == "zh" and rng.random() < 0.2 else "iso-8859-1" if language == "other" else "utf-8"
    stray = {"en": (*SEED_REGISTERS, *PLAIN_ENGLISH), "zh": CHINESE, "other": ()}[language]
    weight = (2 if kind == "general" else 1) / (1 + rng.random() * 9)  # the largest are twenty times the smallest
    return Site(number, domain, kind, look, _sections(rng, kind, language), weight, stray, charset, rng.randrange(4))


def _sections(rng: random.Random, kind: Kind, language: str) -> tuple[Section, ...]:
    topics = len(vocabulary_zh.TOPICS if language == "zh" else vocabulary.TOPICS)
    topic = rng.randrange(topics)

    def share(contents: list[str], weight: float, below: str = "") -> list[Section]:
        return [Section(below + _PATHS.get(name, name), name, weight / len(contents), topic) for name in contents]

    offices = rng.sample(OFFICES, rng.randint(2, 3))
    match kind:
        case "core":
            chosen = [rng.choice(SEED_REGISTERS)] if rng.random() < 0.6 else rng.sample(SEED_REGISTERS, 2)
            sections = share(chosen, 0.65) + share(offices, 0.35)
        case "bridge":
            sections = share([rng.choice(SEED_REGISTERS)], 0.25) + share(rng.sample(PLAIN_ENGLISH, 2), 0.45)
            sections += share(offices, 0.3)
        case "bridge_zh":
            sections = share(rng.sample(PLAIN_ENGLISH[:2], rng.randint(1, 2)), 0.3)
            sections += share(rng.sample(CHINESE, 2), 0.45, "zh/") + share(offices, 0.25)
        case "far_en":
            sections = share(rng.sample(PLAIN_ENGLISH, rng.randint(1, 2)), 0.7) + share(offices, 0.3)
        case "far_zh":
            sections = share(rng.sample(CHINESE, rng.randint(1, 2)), 0.7) + share(offices, 0.3)
        case "host":
            sections = [
                Section(f"~{name}", content, 1 / 9, rng.randrange(topics))
                for name, content in zip(
                    rng.sample(words("alice|bob|carol|dave|erin|frank|grace|heidi|ivan|judy|mallory|oscar"), 9),
                    ["qa", "notes", "blog", "stories", *["article"] * 5],
                    strict=True,
                )
            ]
        case _:
            prefixes = rng.sample(words("news|blog|articles|stories|posts|archive|magazine|p"), 2)
            sections = [Section(prefix, "article", 0.5, rng.randrange(topics)) for prefix in prefixes]
    return tuple(sections)


def _domain(rng: random.Random, kind: Kind, language: str, taken: set[str]) -> str:
    while True:
        if kind == "general" or kind == "host":
            topic = rng.choice(vocabulary.TOPICS)
            first = rng.choice([topic.name, rng.choice(topic.nouns), rng.choice(topic.adjectives)])
        else:
            first = rng.choice(_FIRST_ZH if kind == "far_zh" else _FIRST)
        ending = "cn.example" if language == "zh" else "de.example" if language == "other" else "example"
        domain = f"{first}-{rng.choice(_LAST)}{rng.choice(['', '', rng.randint(2, 99)])}.{ending}"
        if domain not in taken:
            taken.add(domain)
            return domain


def _title(domain: str) -> str:
    return domain.partition(".")[0].replace("-", " ").title()
