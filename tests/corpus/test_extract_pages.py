"""Whole pages: what survives of real ones, in which language, from which encoding, and what no page can break."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from dsm.corpus.extract import VERSION, extract, language_of
from dsm.corpus.extract.charset import decode
from dsm.corpus.extract.page import MAX_BYTES, count_formulas, tidy
from dsm.corpus.extract.survival import GoldPage


@pytest.fixture(scope="module")
def math_pages(shared_data: Path) -> Path:
    return shared_data / "web" / "math_pages"


def test_formulas_of_real_pages_survive(math_pages: Path) -> None:
    """Every gold formula is in the text of its page but for white space and braces; where the gold was converted from
    MathML or AsciiMath, but for the spelling of equal things, too. To the letter it is .91 of them."""
    shares: dict[str, float] = {}
    strict: list[float] = []
    for path in sorted((math_pages / "gold").glob("*.jsonl")):
        gold = GoldPage.load(path)
        text = extract((math_pages / "html" / f"{gold.name}.html").read_bytes()).text
        share = gold.survival(text, spelling=True)
        if share is not None:
            shares[gold.name] = share
            strict.append(gold.survival(text) or 0.0)
    assert len(shares) >= 12
    assert min(shares.values()) >= 0.9, shares
    assert sum(shares.values()) / len(shares) >= 0.98, shares
    assert sum(strict) / len(strict) >= 0.91


def test_boilerplate_is_less_than_resiliparse_leaves(math_pages: Path) -> None:
    ours = theirs = 0
    for path in sorted((math_pages / "gold").glob("*.jsonl")):
        gold = GoldPage.load(path)
        page = (math_pages / "html" / f"{gold.name}.html").read_bytes()
        ours += gold.boilerplate(extract(page).text)
        theirs += gold.boilerplate(extract_plain_text(HTMLTree.parse(decode(page)), main_content=True))
    assert 0 < ours < theirs


def test_survival_counts_what_is_there() -> None:
    page = GoldPage("a_mathml", ["\\frac{1}{2}", "\\stackrel{˙}{x}"], frozenset({"the", "half"}))
    assert page.survival("the $\\frac 1 2$") == 0.5
    assert page.survival("the $\\frac 1 2$ $\\dot{x}$", spelling=True) == 1
    assert page.survival("") == 0
    assert page.boilerplate("the $half$ of menus $and$") == len("ofmenus")
    assert GoldPage("b", [], frozenset()).survival("x") is None


def test_each_encoding_gives_its_formulas(math_pages: Path) -> None:
    least = {
        "chain_math.stackoverflow": 80, "chain_math_broken_label": 60, "chain_math_extra_line_breaks": 5,
        "chain_math_mathinsight_custom_latex": 65, "chain_math_mathjax_mock": 35, "chain_math_miss_namespace": 7,
        "chain_math_test_ascii_delimiter": 20, "chain_math_zhihu_custom_tag": 25, "chain_sub_sup_exception": 2,
        "chain_table_include_math_p": 60, "chain_table_include_table_math": 10, "img_codecogs_com": 3,
        "img_mimetex_cgi": 40, "math_physicsforums": 12, "math_physicsforums_2": 20, "mathjax-mml-chtml": 13,
        "mathjax-mml-chtml_prefix": 2, "mathjax_tex_chtml": 12,
        "stackexchange_1_span-math-container_latex_mathjax": 15,
    }  # fmt: skip
    found = {
        path.stem: extract(path.read_bytes()).formulas for path in sorted((math_pages / "encodings").glob("*.html"))
    }
    assert {name for name, count in found.items() if count < least[name]} == set()


def test_languages_of_real_pages(shared_data: Path) -> None:
    folder = shared_data / "web" / "trafilatura"
    english = {"blog.python.org", "en.wikipedia.org.tsne", "github.blog.spiceland", "lemire.me.json", "dw.com.uncork"}
    other = {"heise.de.lithium", "sauvonsluniversite.com.spip", "netzpolitik.org.abmahnungen", "adac.de.kindersitze"}
    for names, language in ((english, "en"), (other, "other")):
        for name in sorted(names):
            assert extract((folder / f"{name}.html").read_bytes()).language == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Prove that $n$ is even.", "en"),
        ("Exercise 3. Solve for x: $3x+2=5$", "en"),
        ("设函数 $f(x)=x^2$, 求 $f$ 的最小值。", "zh"),
        ("求解方程", "zh"),
        ("In this paper (论文) we study the convergence of the method and its rate.", "en"),
        ("これは日本語の文章です。漢字も含まれます", "other"),
        ("한국어 문장입니다", "other"),
        ("Wir zeigen, dass die Menge offen ist und nicht leer.", "other"),
        ("Soit f une fonction continue sur le segment", "other"),
        ("$x^2 + y^2 = z^2$ 1 2 3", "other"),
        ("", "other"),
    ],
)
def test_language_of(text: str, language: str) -> None:
    assert language_of(text) == language


CHINESE = "设函数连续,求最小值。"


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("é α".encode(), None, "é α"),
        ("é α".encode(), "iso-8859-1", "é α"),
        (b"\xef\xbb\xbf" + "é".encode(), "gbk", "é"),
        ("é".encode("utf-16-le").join([b"\xff\xfe", b""]), None, "é"),
        ("caf\u00e9".encode("latin-1"), "iso-8859-1", "café"),
        (b'<meta charset="gb2312">' + CHINESE.encode("gbk"), None, CHINESE),
        (b'<meta http-equiv=x content="text/html; charset=gbk">' + CHINESE.encode("gbk"), "utf-8", CHINESE),
        (CHINESE.encode("gbk") * 30, None, CHINESE * 30),
        ((CHINESE * 30).encode()[:-1], "utf-8", CHINESE * 29 + CHINESE[:-1] + "\ufffd"),
        ("日本語".encode("iso2022_jp"), "iso-2022-jp", "日本語"),
        (b"plain", "no-such-charset", "plain"),
        (b"\xe9t\xe9", "no-such-charset", "été"),
    ],
)
def test_charset(data: bytes, charset: str | None, text: str) -> None:
    assert decode(data, charset).endswith(text)


NASTY = {
    "empty": b"",
    "nothing but zeros": b"\x00" * 1000,
    "zeros within": b"<p>a\x00b <math><mi>x\x00</mi></math></p>",
    "no HTML": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "deep": b"<div>" * 30_000 + b"<math><mi>x</mi></math>",
    "deep and closed": b"<div>" * 3000 + b"x" + b"</div>" * 3000,
    "deep formula": b"<p>a<math>" + b"<mrow>" * 20_000 + b"<mi>x</mi></p>",
    "deep inline": b"<b><i>" * 10_000 + b"x",
    "deep tables": b"<table><tr><td>" * 3000 + b"$x$",
    "unclosed": b"<html><body><p>a<math><mfrac><mi>x<p>b<script type='math/tex'>y",
    "attributes": b"<math " + b"a='b' " * 20_000 + b"><mi>x</mi></math>",
    "many formulas": b"<p>a <math><mi>x</mi></math> b</p>" * 1500,
    "one paragraph of images": b"<p>" + b"<img class=latex alt='x^2' src=a.png>" * 1000,
    "quadratic bait": b"$" * 50_000 + b"\\(" * 20_000 + b"[tex]" * 8_000 + b"$latex " * 8_000,
    "backticks": b"<script src='ASCIIMathML.js'></script>" + b"`(((((((((((((((" * 1500,
    "lists": b"<script src=mathjax.js></script>" + b"<ul><li>$x$" * 400,
}


@pytest.mark.parametrize("name", NASTY)
def test_nothing_breaks_or_takes_long(name: str) -> None:
    begin = time.process_time()
    found = extract(NASTY[name])
    assert time.process_time() - begin < 5
    found.text.encode()
    assert "\x00" not in found.text


def test_half_a_character_of_json_is_no_error() -> None:
    assert extract("<p>a \ud835 b &#xD835; é</p>").text.startswith("a ? b")


def test_long_pages_are_cut_and_say_so() -> None:
    page = b"<p>begin</p>" + b"<!-- " + b"x" * MAX_BYTES + b" --><p>end</p>"
    found = extract(page)
    assert found.truncated
    assert found.text == "begin"
    assert not extract(b"<p>begin</p>").truncated


def test_a_page_whose_wrapper_is_named_like_a_menu_is_not_lost() -> None:
    page = f'<body><div class="modal">{"<p>The set is open, as we have shown before.</p>" * 20}</div></body>'
    assert extract_plain_text(HTMLTree.parse(page), main_content=True) == ""
    assert extract(page).text.count("open") == 20


def test_title_and_version() -> None:
    assert extract("<title> A  title\n</title><p>x</p>").title == "A title"
    assert extract("<p>x</p>").title == ""
    assert VERSION


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("$x$ and $$y$$ and \\(z\\) and \\[w\\]", 4),
        ("\\begin{align} a &= b \\end{align}", 1),
        ("from $5 to $10 a month", 0),
        ("$5,000 and $6,000, where $x^2$ is", 1),
        ("$5$ apples, $2^{10}$ bytes", 2),
        ("", 0),
    ],
)
def test_count_formulas(text: str, count: int) -> None:
    assert count_formulas(text) == count


def test_controls_go_and_sentences_stay() -> None:
    lines = [
        "Share | Cite | Improve this question",
        "Like the others, share it.",
        "分享",
        "Question",
        "© 2020 Somebody",
    ]
    text = "\n".join([*lines, "up vote 3 down vote"])
    assert tidy(text) == "Like the others, share it.\nQuestion"
