"""Presentation MathML to LaTeX, for formulas whose page kept no TeX beside it.

MathML says how a formula looks, which LaTeX does too: each element has a command. Three things take care. Fences are
mere operators among their siblings, so a pair is searched for in each row and becomes `\\left( ... \\right)`, as they
stretch. Accents are characters over a base (`<mover>`), so `¯` is `\\bar` over a letter and `\\overline` over more. And
tables stand for matrices, cases and aligned lines alike: what is around them and their columns tell which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from resiliparse.parse.html import ElementNode

from dsm.corpus.extract.formulas.characters import FUNCTIONS, command_of
from dsm.corpus.extract.formulas.elements import Element
from dsm.corpus.extract.formulas.tables import matrix, table
from dsm.corpus.extract.formulas.tex import base, join, script, words

_OPEN = {"(": "(", "[": "[", "{": "\\{", "⟨": "\\langle", "〈": "\\langle", "⌈": "\\lceil", "⌊": "\\lfloor",
         "⟦": "\\llbracket"}  # fmt: skip
_CLOSE = {")": ")", "]": "]", "}": "\\}", "⟩": "\\rangle", "〉": "\\rangle", "⌉": "\\rceil", "⌋": "\\rfloor",
          "⟧": "\\rrbracket"}  # fmt: skip
_BARS = {"|": "|", "∣": "|", "❘": "|", "‖": "\\|", "∥": "\\|", "||": "\\|"}
_ACCENTS = {  # character: (over one letter, over more)
    "^": ("hat", "widehat"), "ˆ": ("hat", "widehat"), "̂": ("hat", "widehat"), "~": ("tilde", "widetilde"),
    "˜": ("tilde", "widetilde"), "∼": ("tilde", "widetilde"), "̃": ("tilde", "widetilde"), "¯": ("bar", "overline"),
    "ˉ": ("bar", "overline"), "‾": ("bar", "overline"), "̄": ("bar", "overline"), "̅": ("bar", "overline"),
    "_": ("bar", "overline"), "―": ("bar", "overline"), "→": ("vec", "overrightarrow"), "⃗": ("vec", "overrightarrow"),
    "⇀": ("vec", "overrightarrow"), "˙": ("dot", "dot"), ".": ("dot", "dot"), "̇": ("dot", "dot"), "¨": ("ddot", "ddot"),
    "̈": ("ddot", "ddot"), "⃛": ("dddot", "dddot"), "ˇ": ("check", "check"), "˘": ("breve", "breve"),
    "´": ("acute", "acute"), "`": ("grave", "grave"), "˚": ("mathring", "mathring"), "⏞": ("overbrace", "overbrace"),
    "︷": ("overbrace", "overbrace"), "←": ("overleftarrow", "overleftarrow"),
    "↔": ("overleftrightarrow", "overleftrightarrow"), "⌢": ("overset{\\frown}", "overset{\\frown}"),
}  # fmt: skip
_UNDER_ACCENTS = {"_": "underline", "¯": "underline", "‾": "underline", "̲": "underline", "―": "underline",
                  "⏟": "underbrace", "︸": "underbrace", "ˉ": "underline"}  # fmt: skip
_ARROWS = {"\\to": "xrightarrow", "\\longrightarrow": "xrightarrow", "\\leftarrow": "xleftarrow",
           "\\longleftarrow": "xleftarrow"}  # fmt: skip
_LIMITS = re.compile(
    r"\\(?:sum|prod|coprod|int|iint|iiint|oint|big[a-z]+|lim|limsup|liminf|max|min|sup|inf|det|gcd|Pr|underbrace|overbrace"
    r"|operatorname\*)\b"
)
_VARIANTS = {"bold": "mathbf", "bold-italic": "boldsymbol", "double-struck": "mathbb", "script": "mathcal",
             "bold-script": "mathcal", "fraktur": "mathfrak", "bold-fraktur": "mathfrak", "sans-serif": "mathsf",
             "monospace": "mathtt", "bold-sans-serif": "mathsf", "sans-serif-italic": "mathsf"}  # fmt: skip
_INFIX = frozenset(
    words("= < > + - ± ∓ × ÷ ⋅ · ∗ ≠ ≤ ≥ ≪ ≫ ≈ ≡ ≅ ≃ ∼ ∝ ∈ ∉ ∋ ⊂ ⊃ ⊆ ⊇ ∪ ∩ ∧ ∨ ⊕ ⊗ ∘"
    " → ← ↔ ⇒ ⇔ ⟹ ⟺ ⟶ ↦ ∖ := ≔ ⩽ ⩾ ⊥ ∥ ∣ − : ≺ ≻ ⇌")
)  # fmt: skip
_ESCAPED = str.maketrans({c: "\\" + c for c in "{}%&#_$"} | {"\\": "\\textbackslash ", "\u00a0": " "})


def latex(math: ElementNode) -> str:
    """LaTeX of a `<math>` element, without delimiters; "" where it shows nothing."""
    return re.sub(r" {2,}", " ", _row_of(Element(math))).strip()


def _convert(node: Element) -> str:
    handler = _HANDLERS.get(node.tag)
    return handler(node) if handler else _row_of(node)


def _row_of(node: Element) -> str:
    return _row(node.children) if node.children else _letters(node.text)


def _row(nodes: Sequence[Element]) -> str:
    """Siblings in a line: fences that belong together stretch, operators between operands get room."""
    pairs = _pairs(nodes)
    out: list[str] = []
    skip_until = -1
    for i, node in enumerate(nodes):
        if i <= skip_until:
            continue
        if i in pairs and (found := _fenced_table(nodes, i, pairs[i])):
            out.append(found)
            skip_until = pairs[i] if pairs[i] < len(nodes) else i + 1
        elif i in pairs and pairs[i] < len(nodes):
            out.append(f"\\left{_fence(nodes[i])}")
        elif i in pairs.values():
            out.append(f"\\right{_fence(node)}")
        else:
            piece = _convert(node)
            between = 0 < i < len(nodes) - 1 and node.tag == "mo" and _is_operand(nodes[i - 1])
            out.append(f" {piece} " if between and node.text in _INFIX else piece)
    return join(piece for piece in out if piece)


def _is_operand(node: Element) -> bool:
    return node.tag != "mo" or not (node.text in _INFIX or node.text in _OPEN or node.text in (",", ";"))


def _core(node: Element) -> Element:
    """What is left of a node when the groups around one thing are taken off it."""
    while node.tag in ("mrow", "mstyle", "mpadded", "mtd") and len(inner := node.children) == 1:
        node = inner[0]
    return node


def _fence(node: Element) -> str:
    text = _core(node).text
    return _OPEN.get(text) or _CLOSE.get(text) or _BARS[text]


def _pairs(nodes: Sequence[Element]) -> dict[int, int]:
    """Index of each opening fence that stretches, and of the fence that closes it.

    Bars open and close alike: a pair is one that says so (`form`), or the first and last of the row. A brace before a
    table that nothing closes, as cases have it, is paired with the end of the row.
    """
    pairs: dict[int, int] = {}
    stack: list[int] = []
    cores = [_core(node) for node in nodes]
    for i, node in enumerate(cores):
        if node.tag != "mo":
            continue
        text, form = node.text, node.get("form")
        if text in _OPEN or (text in _BARS and form == "prefix"):
            stack.append(i)
        elif (text in _CLOSE or (text in _BARS and form == "postfix")) and stack:
            opened = stack.pop()
            if "false" not in (node.get("stretchy"), cores[opened].get("stretchy")):
                pairs[opened] = i
    for opened in stack:
        if opened == len(nodes) - 2 and cores[-1].tag == "mtable":
            pairs[opened] = len(nodes)
    if len(nodes) == 3 and cores[1].tag in ("mtable", "mfrac") and cores[0].text == cores[2].text in _BARS:
        pairs[0] = 2
    return pairs


def _fenced_table(nodes: Sequence[Element], opened: int, closed: int) -> str:
    """The matrix between two fences, or the cases after a brace; "" where anything else is there."""
    inner = [_core(node) for node in nodes[opened + 1 : closed] if node.tag != "mspace"]
    after = _core(nodes[closed]).text if closed < len(nodes) else ""
    if len(inner) == 1 and inner[0].tag == "mfrac" and inner[0].get("linethickness")[:1] == "0":
        parts = [_convert(part) for part in inner[0].children]
        return f"\\binom{{{parts[0]}}}{{{parts[1]}}}" if len(parts) == 2 and _core(nodes[opened]).text == "(" else ""
    if len(inner) != 1 or inner[0].tag != "mtable":
        return ""
    return matrix(inner[0], _core(nodes[opened]).text, after, _row_of)


def _letters(text: str) -> str:
    return join(command_of(character) for character in text)


def _identifier(node: Element) -> str:
    if node.children:
        return _row(node.children)
    text = node.text
    variant = node.get("mathvariant")
    if not variant and node.get("fontweight") == "bold":
        variant = "bold"
    if text in FUNCTIONS and variant in ("", "normal", "italic"):
        return f"\\{text}"
    tex = _letters(text)
    if variant in _VARIANTS:
        return f"\\{_VARIANTS[variant]}{{{tex}}}"
    upright = variant == "normal" and re.fullmatch(r"[A-Za-z]", text) is not None
    if upright or (variant != "italic" and re.fullmatch(r"[A-Za-z][A-Za-z0-9 .\-]+", text)):
        return f"\\mathrm{{{tex}}}"
    return tex


def _number(node: Element) -> str:
    variant = node.get("mathvariant")
    tex = _letters(node.text)
    return f"\\{_VARIANTS[variant]}{{{tex}}}" if variant in _VARIANTS else tex


def _operator(node: Element) -> str:
    text = node.text
    if not text:
        return "\\ " if "\u00a0" in node.raw else ""
    if text in FUNCTIONS:
        return f"\\{text}"
    if text == "mod":
        return "\\bmod "
    if re.fullmatch(r"[A-Za-z][A-Za-z ]+", text):
        return f"\\operatorname{{{text}}}"
    return {"||": "\\|", "...": "\\dots"}.get(text) or _letters(text)


def _words(node: Element) -> str:
    text = re.sub(r"[ \t\r\n\u00a0]+", " ", node.raw or node.all_text)
    if not text.strip():
        return "\\ " if text else ""
    if len(text.strip()) == 1 and command_of(text.strip()).startswith("\\") and not text.strip().isascii():
        return command_of(text.strip())
    style = {"bold": "textbf", "italic": "textit", "monospace": "texttt"}.get(node.get("mathvariant"), "text")
    return f"\\{style}{{{text.translate(_ESCAPED)}}}"


def _space(node: Element) -> str:
    if node.get("linebreak") == "newline":
        return "\\\\ "
    match = re.match(r"([\d.]+)\s*em", node.get("width"))
    width = float(match.group(1)) if match and match.group(1).count(".") < 2 and match.group(1) != "." else 0.0
    return "\\qquad " if width >= 2 else "\\quad " if width >= 0.9 else ""


def _fraction(node: Element) -> str:
    parts = [_convert(part) for part in node.children]
    if len(parts) != 2:
        return join(parts)
    above, below = parts
    if node.get("bevelled") == "true":
        return f"{base(above)}/{base(below)}"
    if re.match(r"0(?:\D|$)", node.get("linethickness")):
        return f"\\genfrac{{}}{{}}{{0pt}}{{}}{{{above}}}{{{below}}}"
    return f"\\frac{{{above}}}{{{below}}}"


def _square_root(node: Element) -> str:
    return f"\\sqrt{{{_row_of(node).strip()}}}"


def _root(node: Element) -> str:
    parts = [_convert(part).strip() for part in node.children]
    return f"\\sqrt[{parts[1]}]{{{parts[0]}}}" if len(parts) == 2 else f"\\sqrt{{{join(parts)}}}"


def _scripted(node: Element) -> str:
    """`msub`, `msup`, `msubsup`."""
    parts = node.children
    below, above = {"msub": (1, 0), "msup": (0, 1)}.get(node.tag, (1, 2))
    if len(parts) <= max(below, above):
        return _row(parts)
    nucleus = base(_convert(parts[0]))
    under = script("_", _convert(parts[below])) if below else ""
    over = _convert(parts[above]).strip() if above else ""
    if over and re.fullmatch(r"'+|\\prime(?:\\prime)*", over):
        return nucleus + over.replace("\\prime", "'") + under
    return nucleus + under + script("^", over)


def _stacked(node: Element) -> str:
    """`munder`, `mover`, `munderover`: limits, accents, braces, labelled arrows, or just things above each other."""
    parts = node.children
    below, above = {"munder": (1, 0), "mover": (0, 1)}.get(node.tag, (1, 2))
    if len(parts) <= max(below, above):
        return _row(parts)
    tex = _convert(parts[0]).strip()
    under = _convert(parts[below]).strip() if below else ""
    over = _convert(parts[above]).strip() if above else ""
    if _LIMITS.match(tex):
        return tex + script("_", under) + script("^", over)
    if tex in _ARROWS:
        return f"\\{_ARROWS[tex]}" + (f"[{under}]" if under else "") + f"{{{over}}}"
    if under:
        accent = _UNDER_ACCENTS.get(_core(parts[below]).text)
        tex = f"\\{accent}{{{tex}}}" if accent else f"\\underset{{{under}}}{{{tex}}}"
    if over:
        accents = _ACCENTS.get(_core(parts[above]).text)
        one = re.fullmatch(r"[A-Za-z0-9]|\\[A-Za-z]+|\\math[a-z]+\{[^{}]\}", tex) is not None
        tex = f"\\{accents[0 if one else 1]}{{{tex}}}" if accents else f"\\overset{{{over}}}{{{tex}}}"
    return tex


def _fenced(node: Element) -> str:
    opening = node.get("open") if node.has("open") else "("
    closing = node.get("close") if node.has("close") else ")"
    separators = re.sub(r"\s", "", node.get("separators") if node.has("separators") else ",")
    parts = node.children
    inner = [_core(part) for part in parts if part.tag != "mspace"]
    if len(inner) == 1 and inner[0].tag == "mtable":
        found = matrix(inner[0], opening, closing, _row_of)
        if found:
            return found
    body = ""
    for i, part in enumerate(parts):
        if i:
            body += (separators[min(i - 1, len(separators) - 1)] + " ") if separators else ""
        body = join([body, _convert(part)])
    return join([f"\\left{_side(opening)}", body, f"\\right{_side(closing)}"])


def _side(text: str) -> str:
    return _OPEN.get(text) or _CLOSE.get(text) or _BARS.get(text) or (command_of(text) if len(text) == 1 else "") or "."


def _enclosed(node: Element) -> str:
    body = _row_of(node)
    for notation in node.get("notation").split():
        match notation:
            case "box" | "roundedbox" | "circle":
                body = f"\\boxed{{{body}}}"
            case "updiagonalstrike" | "downdiagonalstrike" | "horizontalstrike":
                body = f"\\cancel{{{body}}}"
            case "radical":
                body = f"\\sqrt{{{body}}}"
            case "top" | "actuarial" | "longdiv":
                body = f"\\overline{{{body}}}"
            case "bottom":
                body = f"\\underline{{{body}}}"
    return body


def _multiscripts(node: Element) -> str:
    before: list[str] = []
    after: list[str] = []
    side = after
    parts = node.children
    for part in parts[1:]:
        if part.tag.endswith("mprescripts"):
            side = before
        else:
            side.append(_convert(part))
    marks = [
        "".join(script("_^"[i % 2], tex) for i, tex in enumerate(scripts)) for scripts in (before, after)
    ]  # pairs alternate
    nucleus = base(_convert(parts[0])) if parts else ""
    return ("{}" + marks[0] if marks[0] else "") + nucleus + marks[1]


def _first(node: Element) -> str:
    parts = [part for part in node.children if not part.tag.startswith("annotation")]
    return _row(parts if node.tag == "semantics" else parts[:1])


def _nothing(_node: Element) -> str:
    return ""


def _glyph(node: Element) -> str:
    return f"\\text{{{node.get('alt')}}}"


def _table(node: Element) -> str:
    return table(node, _row_of)


_HANDLERS: dict[str, Callable[[Element], str]] = {
    "mi": _identifier, "mn": _number, "mo": _operator, "mtext": _words, "ms": _words, "mspace": _space,
    "mfrac": _fraction, "msqrt": _square_root, "mroot": _root, "msub": _scripted, "msup": _scripted,
    "msubsup": _scripted,
    "munder": _stacked, "mover": _stacked, "munderover": _stacked, "mfenced": _fenced, "menclose": _enclosed,
    "mmultiscripts": _multiscripts, "mtable": _table, "semantics": _first, "maction": _first, "mphantom": _nothing,
    "none": _nothing, "mprescripts": _nothing, "annotation": _nothing, "annotation-xml": _nothing, "mglyph": _glyph,
    "maligngroup": _nothing, "malignmark": _nothing,
}  # fmt: skip
