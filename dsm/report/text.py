"""How a report writes texts and numbers."""

from __future__ import annotations

_CONTROLS = {code: code + 0x2400 for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}


def visible(text: str) -> str:
    """Text that any file takes: control characters as their pictures, halves of surrogate pairs as U+FFFD."""
    return text.translate(_CONTROLS).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def signed(share: float) -> str:
    """0.123 -> '+12.3', a true minus sign; what rounds to nothing has none."""
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def points(share: float) -> str:
    """0.02 -> '2', 0.025 -> '2.5'."""
    return f"{100 * share:.3g}"


def p_value(p: float) -> str:
    """Two digits that mean something."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def clip(text: str, limit: int) -> str:
    """A long text without its middle, saying how much is left out; its end, where the answer stands, gets a third."""
    if len(text) <= limit:
        return text
    tail = limit // 3
    left_out = f"\n[… {len(text) - limit:,} characters left out …]\n"
    return text[: limit - tail] + left_out + (text[-tail:] if tail else "")


def span(seconds: float) -> str:
    """41 -> '41 s', 400 -> '6 min 40 s', 7300 -> '2 h 02 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
