r"""Numbers as people write them in running text: $1,234.50, -3, 3/4, 1 1/2, \frac{3}{4}, 25%, 1.5e6, 3:45, １２３."""

from __future__ import annotations

import re

_ZEROS = "０٠۰०০౦๐"  # full-width, Arabic, Persian, Devanagari, Bengali, Telugu, Thai
_DIGITS = {ord(zero) + digit: str(digit) for zero in _ZEROS for digit in range(10)}
_SIGNS = {
    ord("．"): ".",
    ord("，"): ",",
    ord("％"): "%",
    ord("－"): "-",
    ord("／"): "/",
    ord("＄"): "$",
    ord("："): ":",
}
_TABLE = _DIGITS | _SIGNS | {ord("−"): "-", ord("–"): "-"}

_WHOLE = r"(?:[0-9]{1,3}(?:(?:,|\{,\}|\\[,!]|,\\!|\\!,|[\u2009\u202f\u00a0\x20])[0-9]{3})+(?![0-9])|[0-9]+)"
_PLAIN = rf"(?:{_WHOLE}(?:\.[0-9]+)?|(?<!\.)\.[0-9]+)"
_NUMBER = re.compile(
    r"""
    (?=[-0-9.$\\€£¥￥₹UEGCRI])  # what one may start with: makes the search quick
    (?<![A-Za-z0-9_^])(?<![0-9]\.)(?<![\^_]\{)(?<![\^_]\{-)(?<!\^-)  # no name, index, exponent: x2, x_2, m^{-2}
    (?:(?:USD|US|EUR|GBP|CNY|RMB|INR|Rs\.?)\s?(?=[\d$]))?
    (?P<number>
      (?:(?<![A-Za-z0-9)}\]])-(?=[0-9.$\\€£¥￥])|(?:(?<=[=:(])|(?<=[=:(]\s))-\s)?
      (?:(?:\\?\$|[€£¥￥₹])\s?-?)?
      (?:
        [0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?![0-9])(?:\s?[aApP]\.?[mM]\b\.?)?
        | (?:[0-9]+\s?)?\\[dtc]?frac\s?(?:\{\s*-?PLAIN\s*\}\s?\{\s*-?PLAIN\s*\}|[0-9]{2})
        | (?:[0-9]+[ ])?[0-9]+/[0-9]+(?![0-9/.])
        | PLAIN(?:(?:\s?(?:\\times|\\cdot|×|\*)\s?10\s?\^\s?(?:\{\s?-?[0-9]+\s?\}|-?[0-9]+))
               |[eE][+-]?[0-9]+(?![A-Za-z0-9])|\^(?:\{-?[0-9]+\}|[0-9]+)|/PLAIN(?![0-9/]))?
      )
      (?:\s?\\?%|\s(?:percent|pct)\b)?
    )
    """.replace("PLAIN", _PLAIN),
    re.VERBOSE,
)
_CURRENCY = re.compile(r"\\?\$|[€£¥￥₹]")
_WINDOWS = (48, 512, 8192)
_LONGEST = 32  # characters of what may be one number and lie half outside of a window


def plain_digits(text: str) -> str:
    """Full-width and other scripts' digits and signs as ASCII; the length stays the same."""
    return text if text.isascii() else text.translate(_TABLE)


def last_number(text: str) -> re.Match[str] | None:
    """The last number, as a match whose group `number` is what is written.

    Digits of names, indices and exponents (x2, x_2, m², cm^3) are not numbers of their own. Text is expected to have
    ASCII digits, see `plain_digits`. The search goes back from the last digit: its cost does not grow with the text.
    """
    end = max(map(text.rfind, "0123456789"))
    if end < 0:
        return None
    for window in (*_WINDOWS, end + 1):
        start = max(end - window, 0)
        last = max(_NUMBER.finditer(text, start), key=re.Match.start, default=None)
        if start == 0 or (last is not None and last.start() - start > _LONGEST):
            return last
    return None


def first_number(text: str) -> re.Match[str] | None:
    """The number that the text starts with, white space and `about` aside."""
    return _NUMBER.match(text)


def without_currency(number: str) -> str:
    """-$5 as -5."""
    return re.sub(r"^-\s+", "-", _CURRENCY.sub("", number).strip())
