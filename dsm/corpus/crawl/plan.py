"""Which pages there are, which are copies of which, and which record goes into which file: a pure function of the seed.

The plan names pages without writing them, so that files can be made in any order by any number of processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from dsm.corpus.crawl.sites import STRAY, Site, draw_sites

Extra = Literal["truncated", "short", "long", "empty", "pdf", "image", "error", "redirect", "charset", "headless"]
EXTRAS: tuple[Extra, ...] = (
    *("truncated", "short", "long", "empty", "pdf", "image", "error", "redirect", "charset", "headless"),
)
"""Records that hold no page to be read: gzip cut off, Content-Length too small or too large, no body, ..."""

_COPIED = {"qa", "notes", "encyclopaedia", "blog", "zh_notes", "article"}
"""What is copied: contents long enough that a copy is more like its original than like its surroundings."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One record.

    Attributes:
        site: whose design and address it has.
        section: of the site; None where `content` is a stray page, or a copy from elsewhere.
        number: of the page, unique in the crawl; a copy of an address has its original's.
        content: a register, a kind of office page, or "article".
        topic: of an article.
        copy_of: the page whose content it has; None for its own.
        spelling: 0 for the address as it is, others for other spellings of it.
        extra: what kind of bad record it is, if it is one.
    """

    site: int
    section: int | None
    number: int
    content: str
    topic: int
    copy_of: Planned | None = None
    spelling: int = 0
    extra: Extra | None = None


@dataclass(frozen=True)
class Amounts:
    """How many records of which kind."""

    pages: int
    url_duplicates: float
    near_duplicates: float
    broken: float


@lru_cache(1)  # a process writes several files
def draw_plan(domains: int, amounts: Amounts, files: int, seed: int) -> list[list[Planned]]:
    """The records of each file."""
    sites = draw_sites(domains, seed)
    rng = random.Random(f"plan {seed}")
    n_urls = round(amounts.pages * amounts.url_duplicates)
    n_near = round(amounts.pages * amounts.near_duplicates)
    records = _own_pages(sites, amounts.pages - n_urls - n_near, rng)
    own = len(records)
    sources = [record for record in records if record.content in _COPIED]
    mirrors = [site for site in sites if site.kind == "mirror"]
    for offset in range(n_near):
        original = rng.choice(sources)
        site = rng.choice(mirrors) if rng.random() < 0.5 else sites[original.site]
        records.append(Planned(site.number, None, own + offset, original.content, original.topic, copy_of=original))
    for _ in range(n_urls):
        original = records[rng.randrange(len(records))]
        records.append(_respelled(original, rng.randint(0, 5)))
    for number in range(round(amounts.pages * amounts.broken)):
        site = rng.choice(sites)
        kind = EXTRAS[number % len(EXTRAS)]
        content = "article" if site.kind in ("general", "mirror") or not site.sections else site.sections[0].content
        records.append(Planned(site.number, None, own + n_near + number, content, 0, extra=kind))
    rng.shuffle(records)
    return [records[file::files] for file in range(files)]


def _respelled(original: Planned, spelling: int) -> Planned:
    return Planned(
        original.site,
        original.section,
        original.number,
        original.content,
        original.topic,
        original.copy_of,
        spelling or 6,
    )


def _own_pages(sites: Sequence[Site], pages: int, rng: random.Random) -> list[Planned]:
    """Pages that are not copies, spread over the sites that write their own."""
    writing = [site for site in sites if site.kind != "mirror"]
    weights = list(accumulate(site.weight for site in writing))
    ends = [round(pages * weight / weights[-1]) for weight in weights]
    records: list[Planned] = []
    for site, end in zip(writing, ends, strict=True):
        sums = list(accumulate(section.weight for section in site.sections))
        indices = range(len(site.sections))
        while len(records) < end:
            section = rng.choices(indices, cum_weights=sums)[0]
            part = site.sections[section]
            content = part.content
            if site.kind == "general" and site.stray and rng.random() < STRAY:
                content = rng.choice(site.stray)
            records.append(Planned(site.number, section, len(records), content, part.topic))
    return records
