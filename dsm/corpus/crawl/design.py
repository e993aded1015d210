"""Page designs: what stands around the content, as sites have it: menus, side bars, banners, offers, footers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from dsm.corpus.crawl.encodings import ENCODINGS, HEADS
from dsm.corpus.crawl.pen import MARK, Block, Document

_MENU = {
    "en": "Home|About us|Contact|Log in|Register|Help|Archive|Search|Privacy policy|Terms of use|Newsletter|Shop",
    "zh": "首页|关于我们|联系方式|登录|注册|帮助|归档|搜索|隐私政策|使用条款|订阅|网站地图|商城",
    "other": "Startseite|Über uns|Kontakt|Anmelden|Registrieren|Hilfe|Archiv|Suche|Datenschutz|Impressum|Shop",
}
_COOKIES = {
    "en": "We use cookies to give you the best experience on our site. By going on you agree to our cookie policy.",
    "zh": "本网站使用Cookie以提升您的浏览体验，继续浏览即表示您同意我们的Cookie政策。",
    "other": "Diese Website verwendet Cookies. Mit der weiteren Nutzung stimmen Sie der Verwendung von Cookies zu.",
}
_ADS = {
    "en": [
        "Advertisement: up to 50% off today only!",
        "Sponsored: learn a language in 10 minutes a day",
        "Download our app",
    ],
    "zh": ["广告：今日全场五折！", "推广：每天十分钟学外语", "下载我们的应用"],
    "other": ["Anzeige: heute bis zu 50 % sparen!", "Gesponsert: Sprachen lernen", "Jetzt die App laden"],
}
_SHARE = {
    "en": ["Share this page", "Print", "Related", "Popular posts", "Tags", "Leave a comment"],
    "zh": ["分享", "打印", "相关阅读", "热门文章", "标签", "发表评论"],
    "other": ["Teilen", "Drucken", "Mehr zum Thema", "Beliebt", "Schlagwörter", "Kommentar schreiben"],
}


@dataclass(frozen=True)
class Look:
    """How the pages of a site look."""

    name: str
    design: str
    encoding: str
    language: str


def html(look: Look, document: Document, rng: random.Random, links: list[str], charset: str = "utf-8") -> str:
    """The page: `document` in its site's design, `links` as the titles that a side bar shows."""
    encode = ENCODINGS[look.encoding]
    formulas = document.formulas

    def shown(text: str, display: bool) -> str:
        return MARK.sub(lambda found: encode(formulas[int(found[1])], display), escape(text))

    blocks = [Block(block.kind, shown(block.text, block.kind == "math")) for block in document.blocks]
    title = shown(document.title, False)
    plain_title = MARK.sub(lambda found: f"${escape(formulas[int(found[1])].latex)}$", escape(document.title))
    parts = _Parts(look, title, blocks, rng, links)
    head = (
        f'<!DOCTYPE html>\n<html lang="{ {"zh": "zh-CN", "other": "de"}.get(document.language, "en") }"><head>'
        f'<meta charset="{charset}"><title>{plain_title} - {look.name}</title>'
        f'<meta name="description" content="{look.name}"><link rel="stylesheet" href="/css/main.css">'
        f"{HEADS.get(look.encoding, '')}<script>window.dataLayer=[];var page={rng.randint(1, 99999)};</script>"
        "<style>.ad{width:300px;height:250px} .nav li{display:inline}</style></head>"
    )
    return f"{head}\n<body>{_DESIGNS[look.design](parts)}</body></html>\n"


class _Parts:
    """The pieces that all designs put together."""

    def __init__(self, look: Look, title: str, blocks: list[Block], rng: random.Random, links: list[str]) -> None:
        self.look, self.title, self.blocks, self.rng, self.links = look, title, blocks, rng, links
        self.language = look.language
        self.share = _SHARE[self.language]

    def menu(self, items: int = 8) -> str:
        """A list of links."""
        words = _MENU[self.language].split("|")[:items]
        return (
            "<ul>"
            + "".join([f'<li><a href="/{number}">{word}</a></li>' for number, word in enumerate(words)])
            + "</ul>"
        )

    def cookies(self) -> str:
        """A banner."""
        return (
            f'<div id="cookie-banner" class="cookie-consent"><p>{_COOKIES[self.language]}</p><button>OK</button></div>'
        )

    def ad(self) -> str:
        """An advertisement."""
        return f'<div class="ad advertisement">{self.rng.choice(_ADS[self.language])}</div>'

    def related(self) -> str:
        """Links to other pages."""
        return (
            "<ul>"
            + "".join([f'<li><a href="/p/{n}">{escape(link)}</a></li>' for n, link in enumerate(self.links)])
            + "</ul>"
        )

    def body(self, item: str = "") -> str:
        """The content; `item` is a template for list items that stand alone, as posts do."""
        pieces, in_list = [], False
        for kind, text in self.blocks:
            listed = kind == "li" and not item
            if listed != in_list:
                pieces.append("<ul>" if listed else "</ul>")
                in_list = listed
            if kind == "li":
                pieces.append(item.replace("@", text) if item else f"<li>{text}</li>")
            elif kind == "math":
                pieces.append(f'<div class="equation">{text}</div>')
            else:
                pieces.append(f"<{kind}>{text}</{kind}>")
        return "\n".join([*pieces, "</ul>"] if in_list else pieces)

    def footer(self) -> str:
        """The last lines."""
        return f"<p>© {self.rng.randint(2015, 2024)} {self.look.name}</p>{self.menu(12)}"


def _plain(p: _Parts) -> str:
    return (
        f'<div id="header"><a href="/">{p.look.name}</a><div id="nav" class="nav">{p.menu()}</div></div>{p.cookies()}'
        f'<div id="content"><h1>{p.title}</h1>\n{p.body()}\n<div class="share">{p.share[0]} | {p.share[1]}</div></div>'
        f'<div id="sidebar"><h3>{p.share[2]}</h3>{p.related()}{p.ad()}</div><div id="footer">{p.footer()}</div>'
    )


def _semantic(p: _Parts) -> str:
    return (
        f'<header><h2 class="logo">{p.look.name}</h2><nav>{p.menu(10)}</nav></header><main><article><h1>{p.title}</h1>'
        f"\n{p.body()}\n</article><aside><h3>{p.share[3]}</h3>{p.related()}{p.ad()}</aside></main>"
        f"<footer>{p.footer()}</footer>{p.cookies()}"
    )


def _forum(p: _Parts) -> str:
    author = f'<div class="postauthor">user{p.rng.randint(1, 9999)}</div>'
    post = f'<div class="post reply">{author}<div class="postbody">@</div></div>'
    return (
        f'<div class="navbar">{p.menu(7)}</div><div class="breadcrumbs"><a href="/">{p.look.name}</a> » </div>{p.ad()}'
        f'<h1 class="topic-title">{p.title}</h1><div class="post first">{author}'
        f'<div class="postbody">{p.body(post)}</div></div>'
        f'<div class="similar"><h3>{p.share[2]}</h3>{p.related()}</div>'
        f'<div class="footer">{p.footer()}</div>{p.cookies()}'
    )


def _table(p: _Parts) -> str:
    return (
        f'<table width="100%" border="0"><tr><td colspan="2" class="banner"><b>{p.look.name}</b></td></tr><tr>'
        f'<td class="menu" width="20%" valign="top">{p.menu()}{p.ad()}</td><td valign="top"><h1>{p.title}</h1>\n'
        f'{p.body()}\n</td></tr><tr><td colspan="2" class="footer">{p.footer()}</td></tr></table>'
    )


def _wiki(p: _Parts) -> str:
    return (
        f'<div id="mw-page-base"></div><div id="content" class="mw-body"><h1 id="firstHeading">{p.title}</h1>'
        f'<div id="mw-content-text"><div class="mw-parser-output">\n{p.body()}\n</div></div><div id="catlinks"><ul><li>'
        f'<a href="/c">{p.share[4]}</a></li></ul></div></div><div id="mw-navigation"><h2>{p.look.name}</h2>'
        f'{p.menu(11)}</div><div id="footer" role="contentinfo">{p.footer()}</div>'
    )


def _blog(p: _Parts) -> str:
    return (
        f'{p.cookies()}<div id="page" class="site"><div class="site-header"><p class="site-title">{p.look.name}</p>'
        f'<div class="main-navigation">{p.menu(6)}</div></div><div class="site-content"><div class="post hentry"><h1'
        f' class="entry-title">{p.title}</h1><div class="entry-content">\n{p.body()}\n</div><div class="sharedaddy">'
        f'{p.share[0]}: <a href="#">Twitter</a> <a href="#">Facebook</a></div></div><div class="comment-respond">'
        f'{p.share[5]}</div></div><div class="widget-area"><h3>{p.share[3]}</h3>{p.related()}{p.ad()}</div>'
        f'<div class="site-footer">{p.footer()}</div></div>'
    )


_DESIGNS: dict[str, Callable[[_Parts], str]] = {
    "plain": _plain,
    "semantic": _semantic,
    "forum": _forum,
    "table": _table,
    "wiki": _wiki,
    "blog": _blog,
}
DESIGNS = list(_DESIGNS)
