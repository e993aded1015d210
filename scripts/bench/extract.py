"""Text of pages with formulas: dsm's extraction beside trafilatura and resiliparse, what survives beside the speed.

    pip install trafilatura
    python scripts/bench/extract.py --data ../shared/data

Survival: the share of gold formulas that are in the text but for white space and braces, as the mean over the pages
that have any; "spelling" compares gold that another converter made from MathML or AsciiMath but for its spelling.
Boilerplate: characters of words outside formulas that the gold text has not. Rates are of CPU seconds on one core, so
that others on the machine change them little: pages with formulas (`math_pages`), and ordinary ones (`trafilatura`).
Each peer gets the bytes of a page and decodes them itself, as datatrove has it for resiliparse.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import trafilatura
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import HTMLTree

from dsm.corpus.extract import extract
from dsm.corpus.extract.survival import GoldPage

GOAL = 3
Extractor = Callable[[bytes], str]


def resiliparse(page: bytes, *, main: bool) -> str:
    html = bytes_to_str(page, detect_encoding(page, from_html_meta=True))
    return extract_plain_text(HTMLTree.parse(html), main_content=main, preserve_formatting=True, alt_texts=True)


EXTRACTORS: dict[str, Extractor] = {
    "dsm": lambda page: extract(page).text,
    "trafilatura, text": lambda page: trafilatura.extract(page) or "",
    "trafilatura, markdown": lambda page: trafilatura.extract(page, output_format="markdown") or "",
    "resiliparse, main content": lambda page: resiliparse(page, main=True),
    "resiliparse, everything": lambda page: resiliparse(page, main=False),
}


def rate(extractor: Extractor, pages: Sequence[bytes], repeats: int) -> float:
    """Pages a second of CPU time, the best of `repeats` passes."""
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        for page in pages:
            extractor(page)
        best = min(best, time.process_time() - begin)
    return len(pages) / best


def mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder of real data")
    parser.add_argument("--repeats", type=int, default=3, help="passes, of which the fastest counts")
    asked = parser.parse_args()
    folder = asked.data / "web" / "math_pages"
    golds = [GoldPage.load(path) for path in sorted((folder / "gold").glob("*.jsonl"))]
    measured = [(folder / "html" / f"{gold.name}.html").read_bytes() for gold in golds]
    formulas = [path.read_bytes() for kind in ("html", "encodings") for path in sorted((folder / kind).glob("*.html"))]
    ordinary = [path.read_bytes() for path in sorted((asked.data / "web" / "trafilatura").glob("*.html"))]

    print(f"{len(golds)} pages with {sum(len(gold.formulas) for gold in golds)} gold formulas; speed over")
    print(f"{len(formulas)} pages with formulas and {len(ordinary)} ordinary ones, {asked.repeats} passes\n")
    head = f"{'':26} {'survival':>9} {'spelling':>9} {'boilerplate':>12} {'characters':>11} {'formulas/s':>11}"
    print(f"{head} {'ordinary/s':>11}")
    rates: dict[str, float] = {}
    for name, extractor in EXTRACTORS.items():
        texts = [extractor(page) for page in measured]
        strict = mean([gold.survival(text) for gold, text in zip(golds, texts, strict=True)])
        loose = mean([gold.survival(text, spelling=True) for gold, text in zip(golds, texts, strict=True)])
        foreign = sum(gold.boilerplate(text) for gold, text in zip(golds, texts, strict=True))
        rates[name] = rate(extractor, formulas, asked.repeats)
        numbers = f"{strict:9.3f} {loose:9.3f} {foreign:12,} {sum(map(len, texts)):11,} {rates[name]:11.0f}"
        print(f"{name:26} {numbers} {rate(extractor, ordinary, asked.repeats):11.0f}", flush=True)
    times = rates["dsm"] / rates["trafilatura, text"]
    print(
        f"\ndsm on pages with formulas: {times:.1f} times trafilatura (goal {GOAL}): {'ok' if times >= GOAL else 'LOW'}"
    )


if __name__ == "__main__":
    main()
