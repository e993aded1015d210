"""One page, one canonical address; two pages, two."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dsm.corpus.urls import canonical_url, domain_of, path_of, url_hash

SAME = {
    "example.com/a/c//d?a=1&b=2": [
        "http://example.com/a/c//d?a=1&b=2",
        "https://www.Example.COM:443/a/./b/../c//d/?b=2&a=1#part",
        "  http://user:secret@www2.example.com./a/c//d?a=1&utm_source=x&b=2&gclid=9 ",
        "//example.com/a/c//d?a=1&&b=2&",
        "<http://example.com:80/a/c//d?a=1&b=2>",
        "http:\\\\example.com\\a\\c\\\\d?a=1&b=2",
        "http://example.com/a/c//d;jsessionid=A1B2?a=1&b=2&PHPSESSID=77&sid=0123456789abcdef01",
        "http://exam\nple.com/a/c//d?a=1&b=2",
    ],
    "example.com/~user/%E4%B8%AD%20x": [
        "http://example.com/%7euser/%e4%b8%ad x",
        "http://example.com/%7Euser/中%20x/",
        "https://example.com/~user/中 x?",
    ],
    "example.com/100%25": ["http://example.com/100%", "http://example.com/100%25"],
    "example.com/": [],
    "example.com": ["http://example.com", "http://example.com/", "HTTP://EXAMPLE.COM?", "example.com"],
    "xn--fiq228c.com/a": ["http://中文.com/a", "http://XN--FIQ228C.com/a"],
    "[::1]:8080/a": ["http://[::1]:8080/a"],
    "example.com#!/home": ["http://example.com/#!/home"],
}


@pytest.mark.parametrize(("canonical", "url"), [(c, u) for c, urls in SAME.items() for u in urls])
def test_spellings_of_one_page(canonical: str, url: str) -> None:
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical
    assert url_hash(url) == url_hash(canonical)


def test_pages_that_are_not_the_same() -> None:
    urls = [
        "http://example.com/a",
        "http://example.com/A",
        "http://example.com/a?x=1",
        "http://example.com/a?x=2",
        "http://example.com/a?x[]=2&x[]=1",
        "http://example.com/a?x[]=1&x[]=2",
        "http://example.com/a//b",
        "http://example.com/a/b",
        "http://example.com/a%2Fb",
        "http://example.com/a?sid=02/11/3",
        "http://example.com:8080/a",
        "http://blog.example.com/a",
        "http://www.com/a",
        "http://com/a",
        "ftp://example.com/a",
        "urn:example:a",
        "http://example.com/a/index.html",
        "",
    ]
    assert len({canonical_url(url) for url in urls}) == len(urls)


def test_domain_and_path() -> None:
    url = "https://WWW.MathOverflow.net:443/Questions/12/?tab=votes#1"
    assert domain_of(url) == domain_of("mathoverflow.net") == "mathoverflow.net"
    assert path_of(url) == "/Questions/12"
    assert path_of("http://mathoverflow.net") == "/"
    assert domain_of("urn:example:a") == ""
    assert path_of("") == "/"


@given(st.text(max_size=40) | st.from_regex(r"(https?://)?[a-zA-Z0-9.%@:/?&=#\[\] +;~_-]{0,40}", fullmatch=True))
@example("http://%")
@example("http://a%00b/c")
@example("http://[/")
@example("http://a:99999999999/")
@example("http://example.com/..;jsessionid=1/x")
def test_any_text_has_one_canonical_spelling(text: str) -> None:
    canonical = canonical_url(text)
    assert canonical_url(canonical) == canonical
    domain_of(text), path_of(text), url_hash(text)
