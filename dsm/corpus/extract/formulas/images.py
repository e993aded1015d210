"""Images of formulas: the TeX they were made from is their alternative text or part of their address.

Many sites had their formulas drawn by a server (codecogs, mimeTeX, WordPress, Zhihu, Wikipedia of old): the address
holds the source, as the whole query or as one parameter of it. The alternative text is taken first, for it needs no
decoding and lazy loading spoils addresses; but only if it is TeX, not "equation 3".
"""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

from dsm.corpus.extract.formulas.tex import looks_like_tex, unwrapped

_WHOLE_QUERY = re.compile(
    r"(?:codecogs\.com/(?:[\w.]+/)*(?:(?:gif|png|svg|pdf|emf|swf)\.(?:latex|image|download|normal)|eq\.latex|[a-z]+\.latex)"
    r"|mimetex(?:\.(?:cgi|exe|php))?|mathtex(?:\.(?:cgi|exe|php))?|mathtran[\w./]*)\?(?P<tex>.+)",
    re.IGNORECASE | re.DOTALL,
)
_PARAMETER = re.compile(
    r"(?:latex|/tex|tex2|texify|equation|math|formula|chart|upmath|render)[^?#]*\?(?:[^#]*?[&;])??"
    r"(?:latex|tex|eqn?|math|formula|equation|chl|from|inline|source|l)=(?P<tex>[^&#]*)",
    re.IGNORECASE,
)
_PATH = re.compile(
    r"(?:upmath\.me/(?:svg|png)|latex\.oncell\.com|mathurl\.com/render/tex)/(?P<tex>[^?#]+)", re.IGNORECASE
)
_CLASSES = re.compile(
    r"(?:^|[\s_-])(?:latex\w*|tex|texrender|texvc|math\w*|mwe-math\S*|equation\w*|formula|ee_img|tex_image|eqn?)(?=$|[\s_-])"
)
_SWITCHES = re.compile(
    r"\\(?:dpi|fn|bg|fg)(?:\s*\{[^{}]*\}|_[a-z]+)\s*|\\(?:inline|tiny|small|large|Large|LARGE|huge|opaque)(?![A-Za-z])\s*"
)
_LABEL = re.compile(r"^\s*(?:LaTeX|TeX|Math(?:ML)?|Equation|Formula)\s*:\s*", re.IGNORECASE)
_NO_FORMULA = re.compile(
    r"\s*(?:(?:the\s+)?(?:equation|formula|image|img|math|mathematics|latex|tex|inline[- ]formula|display[- ]formula)"
    r"[\s.:#(]*\d*[\s.)]*|.*\.(?:gif|png|jpe?g|svg|webp))\s*",
    re.IGNORECASE,
)
_QUICK = re.compile(r"latex|tex|math|codecogs|equation|formula|chart\?|upmath|eq", re.IGNORECASE)


def tex_of_image(sources: list[str], alt: str, classes: str) -> str | None:
    """The TeX an image was made from, or None where it is no image of a formula.

    Args:
        sources: its addresses: `src`, and where lazy loading keeps the true one.
        alt: its alternative text.
        classes: its `class` attribute.
    """
    alt = unwrapped(_LABEL.sub("", alt))[0]
    is_tex = looks_like_tex(alt)
    if is_tex and ("\\" in alt or "{" in alt):
        return alt
    drawn = next((tex for source in sources if source and (tex := _tex_in(source))), None)
    known = drawn is not None or _CLASSES.search(classes) is not None
    if is_tex and known:
        return alt
    if drawn is not None:
        return drawn
    if known and 0 < len(alt) <= 200 and not _NO_FORMULA.fullmatch(alt) and _is_terse(alt):
        return alt
    return None


def _tex_in(source: str) -> str | None:
    """The TeX in an address."""
    if source.startswith("data:") or not _QUICK.search(source):
        return None
    if match := _WHOLE_QUERY.search(source):
        tex = unquote(match["tex"])
    elif match := _PARAMETER.search(source):
        if "chl=" in match.group() and "cht=tx" not in source:
            return None
        tex = unquote_plus(match["tex"])
    elif match := _PATH.search(source):
        tex = unquote(match["tex"])
    else:
        return None
    for name, sign in (
        ("&space;", " "),
        ("&plus;", "+"),
        ("&hash;", "#"),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ):
        tex = tex.replace(name, sign)
    tex = unwrapped(_SWITCHES.sub("", tex))[0]
    return tex if tex and not tex.startswith(("http:", "https:")) else None


def _is_terse(text: str) -> bool:
    """Whether text may be a formula without commands, like `x`, `2k+1` or `n = 3`: no run of two words."""
    return re.search(r"[A-Za-z]{3,}\s+[A-Za-z]{3,}", text) is None
