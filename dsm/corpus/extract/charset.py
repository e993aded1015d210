"""From the bytes of a page to its characters, whatever it says about itself."""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_LOOK_AT = 4096  # a meta element later than this is rare, and the detector reads the whole page
_REPLACED = "\ufffd"


def decode(data: bytes, charset: str | None = None) -> str:
    """The text of a page.

    A byte-order mark decides. Else what is valid UTF-8 is UTF-8: no other encoding looks like it by chance, while
    pages often claim one they are not in. Else the charset of the HTTP header, of the page's `<meta>`, or, where they
    are absent, unknown or wrong, the one that detection finds. A page in UTF-8 with a few broken bytes, as one that
    was cut, stays UTF-8.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    escapes = b"\x1b$" in data[:_LOOK_AT] or b"\x1b(" in data[:_LOOK_AT]  # ISO-2022-JP is ASCII to the eye
    if not escapes:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("utf-8", "replace")
            if _mostly_intact(text):
                return text
    found = _META.search(data, 0, _LOOK_AT)
    for label in (charset, found.group(1).decode("ascii", "replace") if found else None):
        said = _known(label)
        if said is not None and said != "utf-8":
            return _with(data, said)
    return _with(data, detect_encoding(data) or "utf-8")


def _mostly_intact(text: str) -> bool:
    """Whether what is not ASCII decoded as UTF-8 nearly everywhere."""
    broken = text.count(_REPLACED)
    other = len(text) - len(text.encode("ascii", "ignore"))
    return broken * 5 <= other - broken


def _known(label: str | None) -> str | None:
    if not label:
        return None
    name = map_encoding_to_html5(label.strip().strip("\"'"), fallback_utf8=False)
    try:
        return codecs.lookup(name).name if name else None
    except LookupError:
        return None


def _with(data: bytes, name: str) -> str:
    return bytes_to_str(data, name, "replace", ())
