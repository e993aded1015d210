"""Benchmark texts in pages: against a slow implementation with sets, by hand, and planted in real texts."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pytest

from dsm.corpus.contamination import BenchmarkText, Decontaminator, Kind
from dsm.corpus.grams import Grams, runs


def text(content: str, kind: Kind = "question", benchmark: str = "bench", item: str = "1") -> BenchmarkText:
    """A benchmark's text."""
    return BenchmarkText(benchmark, item, kind, content)


def grams(content: str) -> list[str]:
    """What dsm/corpus/grams.py makes of a text."""
    return Grams.of(content).texts()


NATALIA = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
MAY = "How many clips did Natalia sell altogether in April and May?"

# ---------------------------------------------------------------- grams


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("It's 3.5 km; 1,072 cm -- or 5.", "it s 3.5 km 1072 cm or 5"),
        ("Solve 3x^2+5x-7=0", "solve 3 x ^ 2 + 5 x - 7 = 0"),
        ("妈咪买了3盒 tea。", "妈 咪 买 了 3 盒 tea"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ １２", "full width 12"),
        ("**Bold** ____ ==== text", "bold text"),
        ("she has 48/2 = <<48/2=24>>24 clips", "she has 48 / 2 = 24 clips"),
        ("(1,200) and 1, 200 and 10{,}000", "1200 and 1 200 and 10000"),
        ("15% of 80", "15 % of 80"),
        ("", ""),
        ("  ...  ", ""),
    ],
)
def test_grams(content: str, expected: str) -> None:
    """Numbers and operators are grams, CJK characters are, formatting is not."""
    assert " ".join(grams(content)) == expected


def test_words_are_of_a_language() -> None:
    """Letters, three or more or a short word, or a CJK character; no number, symbol, variable, product or command."""
    found = Grams.of(r"An x is 3.5 + \frac ab \sin ax é été 题 + か")
    words = [gram for gram, is_one in zip(found.texts(), found.words().tolist(), strict=True) if is_one]
    assert words == ["an", "is", "sin", "été", "题", "か"]


@pytest.mark.parametrize(
    "spellings",
    [
        ["$x^2+3x+2=0$", "x^{2} + 3 x + 2 = 0", r"\(x^2 + 3x+2=0\)", "x² + 3x + 2 = 0", r"\[x^{2}\,+\,3x+2=0\]"],
        [r"$\frac12$", r"\frac{1}{2}", r"\dfrac{1}{2}", r"\tfrac 1 2", r"\frac 1{2}"],
        [r"$a \leq b$", "a ≤ b", r"a\le b", r"\(a \le{} b\)"],
        [r"\left( \sin 60^\circ \right)", "(sin 60°)", r"\bigl(\sin 60^{\circ}\bigr)"],
        [r"\mathbb{R} \times \text{ area}", "R × area", r"R\times{}\textbf{area}"],
        [r"\begin{align*} a &= b \\ c &= d \end{align*}", "a = b\nc = d", r"a=b,\quad c=d"],
        [r"2 \cdot \pi r", "2·πr", r"2\cdot\pi{r}"],
    ],
)
def test_spellings_of_a_formula_are_the_same(spellings: Sequence[str]) -> None:
    """Spacing, delimiters, fonts, sizes, environments and Unicode's signs change no gram."""
    assert len({tuple(grams(spelling)) for spelling in spellings}) == 1, [grams(s) for s in spellings]


def test_hashes_are_of_the_grams_alone() -> None:
    """Equal where grams are, wherever they stand, in whatever alphabet the rest is; runs are polynomials of them."""
    first, second = Grams.of("one two three 4 five"), Grams.of("零 one two three 4 five, α")
    assert first.hashes.tolist() == second.hashes[1:6].tolist()
    assert len(set(second.hashes.tolist())) == len(second)
    base = 0x9E3779B97F4A7C15
    values = first.hashes.tolist()
    for length in range(1, 7):
        expected = [
            sum(value * pow(base, length - 1 - place) for place, value in enumerate(values[i : i + length])) % 2**64
            for i in range(len(values) - length + 1)
        ]
        assert runs(first.hashes, length).tolist() == expected


PIECES = [
    "\n",
    "\r\n",
    " ",
    "\\",
    "\\\\",
    "{",
    "}",
    "\\begin",
    "{array}",
    "<<",
    ">>",
    "--",
    ",",
    "000",
    "1",
    "x",
    "ß",
    "İ",
    "Σ",
]
PIECES += [
    "\\frac",
    "\\left",
    "①",
    "ﬁ",
    "\u2028",
    "\x85",
    "\0",
    "e\u0301",
    "題",
    "½",
    "≤",
    "\ud800",
    "%",
    ".",
    "$",
    "\\%",
    "*",
]


def test_nothing_a_page_can_hold_moves_its_lines() -> None:
    """Cutting keeps every line break, so that a hit's lines are those of the page; long texts have the same grams."""
    rng = random.Random(0)
    for _ in range(300):
        page = "".join(rng.choice(PIECES) for _ in range(rng.randrange(60)))
        found = Grams.of(page)
        assert found.plain.count("\n") == page.count("\n")
        assert "" not in found.texts()
        again = Grams.of(f"{page}\n{' ' * 70_000}\n{page}")
        assert again.texts() == found.texts() * 2
        assert again.hashes.tolist() == found.hashes.tolist() * 2


# ---------------------------------------------------------------- by hand


def test_ten_grams_in_a_row_are_contamination_and_nine_are_not() -> None:
    """The border of the paper's first rule, wherever in the text it lies; one other number breaks a run."""
    finder = Decontaminator([text(NATALIA)])
    ten = "to 48 of her friends in April, and then she"
    assert len(grams(ten)) == 10
    assert finder.clean(f"He wrote {ten} left.").text is None
    assert finder.clean(f"He wrote {ten.removesuffix(' she')} left.").hits == ()
    assert finder.clean(f"He wrote {ten.replace('48', '64')} left.").hits == ()


def test_segments_are_lines_and_the_rest_stays() -> None:
    """All lines that a run touches go, also where it goes on over a line break; others stay as they are."""
    finder = Decontaminator([text(NATALIA)])
    broken = NATALIA.replace("friends in", "friends\nin")
    page = f"  Some — other text.\r\n\n{broken}\nThe end…"
    cleaned = finder.clean(page)
    assert cleaned.text == "  Some — other text.\r\n\nThe end…"
    assert cleaned.segments_removed == 2
    assert [(hit.rule, hit.kind, hit.item, hit.grams) for hit in cleaned.hits] == [("run", "question", "1", 20)]
    assert cleaned.hits[0].match == " ".join(grams(NATALIA))
    assert Decontaminator([text(NATALIA)], unit="page").clean(page).text is None


def test_what_removal_joins_is_searched_again() -> None:
    """A text parted by another one is found when that one is gone."""
    first, second = "Natalia sold clips to 48 of her friends", "in April, and then she sold half"
    finder = Decontaminator([text(f"{first} {second}"), text(MAY)])
    cleaned = finder.clean(f"{first}\n{MAY}\n{second}\nstays")
    assert cleaned.text == "stays"
    assert finder.clean(f"{first}\n{second[3:]}\nstays").hits == ()


def test_short_texts_match_as_a_whole_and_remove_the_page() -> None:
    """The paper's second rule, from 3 grams on."""
    finder = Decontaminator([text("What is 15% of 80?"), text("Two words")])
    assert finder.clean("Hello.\nwhat is 15 % of 80\nBye.").text is None
    assert finder.clean("What is 25% of 80?").hits == ()
    assert finder.clean("What is 15% of 8").hits == ()
    assert finder.clean("two words").hits == ()
    assert finder.coverage["bench"].short == 1
    assert finder.coverage["bench"].whole == 1


@pytest.mark.parametrize("gold", ["72", "-3.5", r"\frac{1}{2}", "x = 5", "x^2 + 3x + 2", "two thirds", "(A)", ""])
def test_bare_answers_are_no_evidence(gold: str) -> None:
    """An answer of a number, a formula or two grams stands on pages that know nothing of the benchmark."""
    finder = Decontaminator([text(gold, "answer")])
    page = f"It is well known that {gold} is {gold}."
    assert finder.clean(page).hits == ()
    assert finder.suspects([page]) == [False]
    assert finder.coverage["bench"].short + finder.coverage["bench"].bare == 1


def test_what_says_little_alone_is_evidence_where_it_is_long() -> None:
    """Of a question about a figure the words are left."""
    long = "In the diagram below, lines k and l are parallel. Find the measure of angle x in degrees."
    short = "In the diagram, what is the value of x?"
    finder = Decontaminator(
        [BenchmarkText("bench", str(n), "question", each, False) for n, each in enumerate((long, short))]
    )
    assert finder.clean(short).hits == ()
    assert finder.clean(long).text is None
    assert Decontaminator([text(short)]).clean(short).text is None


def test_formulas_are_evidence_where_they_are_long() -> None:
    """Ten grams of a formula are common property; a run of twenty is not, nor is a formula that is asked for."""
    steps = r"= \frac{1}{2} \cdot \frac{1}{2} = \frac{1}{4}"
    solution = f"The probability of both events happening is clearly $p {steps} + 3x^2 - 17y^2 = 5z$ and we are done."
    finder = Decontaminator([text(solution, "answer")])
    assert finder.clean(f"So {steps}.").hits == ()
    assert finder.clean(f"So p {steps} + 3x^2 - 17y^2 = 5z").text is None
    asked = Decontaminator([text("$3x^2 + 5x - 7 = 0$")])
    assert asked.clean("Solve: 3x^2+5x-7=0.").text is None
    assert asked.clean("Solve: 8x^2+5x-7=0.").hits == ()


def test_chinese_is_compared_by_character() -> None:
    """Ten characters in a row, numbers kept."""
    finder = Decontaminator([text("妈咪买了3盒茶叶，一盒茶叶有6小包，一共买了多少小包茶叶？")])
    assert finder.clean("题：妈咪买了3盒茶叶一盒茶叶").text is None
    assert finder.clean("题：妈咪买了4盒茶叶一盒").hits == ()
    assert finder.clean("题：妈咪买了3盒茶叶").hits == ()  # nine


def test_hits_name_every_benchmark() -> None:
    """One hit for each benchmark that has the text, with the item that has most of it."""
    finder = Decontaminator(
        [text(NATALIA, benchmark="a", item="7"), text(f"{NATALIA} {MAY}", benchmark="b"), text(MAY, benchmark="c")]
    )
    hits = finder.hits(f"- {NATALIA}")
    assert [(hit.benchmark, hit.item, hit.texts) for hit in hits] == [("a", "7", 1), ("b", "1", 1)]


def test_a_collision_removes_nothing() -> None:
    """Where hashes are equal and strings are not, there is no match."""
    page, there = Grams.of("a b c"), Grams.of("a b d")
    there.hashes[:] = page.hashes
    assert not page.equal(0, there, 0, 3)
    assert page.equal(0, there, 0, 2)


# ---------------------------------------------------------------- against sets

_WORDS = """one two three four five six seven many apples clips x y 1 2 3 4.5 + - = 甲 乙"""
VOCABULARY = _WORDS.split()


def slow_grams(line: str) -> list[str]:
    """The same grams, of texts without formatting."""
    return re.findall(r"[a-z]+|[0-9]+(?:\.[0-9]+)?|[-+=]|[甲乙]", line.lower())


def is_word(gram: str) -> bool:
    return (len(gram) > 1 and gram.isalpha()) or gram in "甲乙"


class Slow:
    """Rules as sets of tuples, pages gram by gram."""

    def __init__(self, texts: Sequence[BenchmarkText], ngram: int, min_ngram: int) -> None:
        self.ngram = ngram
        self.runs: set[tuple[str, ...]] = set()
        self.wholes: set[tuple[str, ...]] = set()
        for each in texts:
            found = tuple(slow_grams(each.text))
            n, spoken = len(found), sum(map(is_word, found))
            if n < min_ngram:
                continue
            if each.kind == "question" and n < ngram and spoken < 1:
                continue
            if each.kind != "question" and n < 2 * ngram and spoken < 1:
                continue
            if n < ngram and not each.alone:
                continue
            if n < ngram:
                self.wholes.add(found)
                continue
            windows = [found[i : i + ngram] for i in range(n - ngram + 1)]
            enough = [sum(map(is_word, window)) >= min(3, ngram) for window in windows]
            self.runs |= {window for window, good in zip(windows, enough, strict=True) if good}
            if n < 2 * ngram and not any(enough):
                self.runs.add(found)
            if n >= 2 * ngram:
                starts = [min(i, n - 2 * ngram) for i, good in enumerate(enough) if not good]
                self.runs |= {found[i : i + 2 * ngram] for i in starts}

    def clean(self, page: str) -> str | None:
        while True:
            lines = page.split("\n")
            flat = [(gram, number) for number, line in enumerate(lines) for gram in slow_grams(line)]
            touched: set[int] = set()
            for length in {len(run) for run in self.runs | self.wholes}:
                for first in range(len(flat) - length + 1):
                    window = tuple(gram for gram, _ in flat[first : first + length])
                    if window in self.wholes:
                        return None
                    if window in self.runs:
                        touched |= set(range(flat[first][1], flat[first + length - 1][1] + 1))
            if not touched:
                return page
            page = "\n".join(line for number, line in enumerate(lines) if number not in touched)
            if not page.strip():
                return None


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_sets(seed: int) -> None:
    """The same lines are left, on texts that nearly match all the time; many at once or one by one."""
    rng = random.Random(seed)
    ngram, min_ngram = rng.choice([(10, 3), (4, 2), (6, 1), (3, 3)])

    def some(count: int) -> list[str]:
        return [rng.choice(VOCABULARY) for _ in range(count)]

    kinds: Sequence[Kind] = ("question", "answer")
    texts = [
        BenchmarkText(
            "bench", str(n), rng.choice(kinds), " ".join(some(rng.randrange(0, 4 * ngram))), rng.random() < 0.8
        )
        for n in range(25)
    ]
    pages = []
    for _ in range(150):
        parts = []
        for _ in range(rng.randrange(1, 5)):
            piece = rng.choice(texts).text.split()
            at = rng.randrange(len(piece) + 1)
            parts += piece[at : at + rng.randrange(1, 2 * ngram)]
            parts += some(rng.randrange(0, 3))
        if rng.random() < 0.3:
            parts[rng.randrange(len(parts) or 1) :][:1] = some(1)
        pages.append("".join(part + rng.choice([" ", " ", " ", "\n"]) for part in parts))
    finder, slow = Decontaminator(texts, ngram=ngram, min_ngram=min_ngram), Slow(texts, ngram, min_ngram)
    expected = [slow.clean(page) for page in pages]
    assert [finder.clean(page).text for page in pages] == expected
    assert [cleaned.text for cleaned in finder.clean_all(pages)] == expected
    assert 20 < sum(left != page for left, page in zip(expected, pages, strict=True)) < 150
    suspects = finder.suspects(pages)
    assert all(suspect or left == page for suspect, left, page in zip(suspects, expected, pages, strict=True))
