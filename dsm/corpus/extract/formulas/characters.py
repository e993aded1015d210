"""Characters of mathematics and the LaTeX commands for them.

One table, grouped as in a LaTeX manual: a group's line pairs characters with the commands that stand for them. Styled
alphabets (ℝ, 𝐱, 𝓛) are not listed: Unicode's own names say which letter they are, and in which style.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from dsm.corpus.extract.formulas.tex import words

_GROUPS = (
    # Greek
    ("αβγδϵζηθικλμνξπρστυφχψω", "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho"
     " sigma tau upsilon varphi chi psi omega"),
    ("εϑϕϖϱςϰϝΓΔΘΛΞΠΣΥΦΨΩ", "varepsilon vartheta phi varpi varrho varsigma varkappa digamma Gamma Delta Theta Lambda Xi"
     " Pi Sigma Upsilon Phi Psi Omega"),
    ("µ∆Ω", "mu Delta Omega"),
    # binary operators
    ("±∓×÷·⋅∗⋆∘•∙⊕⊖⊗⊘⊙∩∪⊎⊓⊔∨∧∖≀⋄△▽◃▹†‡⨿∔⊞⊟⊠⊡", "pm mp times div cdot cdot ast star circ bullet bullet oplus ominus"
     " otimes oslash odot cap cup uplus sqcap sqcup vee wedge setminus wr diamond triangle triangledown triangleleft"
     " triangleright dagger ddagger amalg dotplus boxplus boxminus boxtimes boxdot"),
    ("⊻⊼⋉⋊⋋⋌⋎⋏⋒⋓", "veebar barwedge ltimes rtimes leftthreetimes rightthreetimes curlyvee curlywedge Cap Cup"),
    # large operators
    ("∑∏∐∫∬∭∮∯⋂⋃⋁⋀⨀⨁⨂⨆", "sum prod coprod int iint iiint oint oiint bigcap bigcup bigvee bigwedge bigodot bigoplus"
     " bigotimes bigsqcup"),
    # relations
    ("≤≥≦≧⩽⩾≠≈≡≅≃∼≍≐∝≪≫≺≻⪯⪰≼≽⊂⊃⊆⊇⊊⊋⊏⊐⊑⊒∈∋∉∣∤∥∦⊥⊢⊣⊨⊩⋈", "le ge leqq geqq leqslant geqslant ne approx equiv cong simeq"
     " sim asymp doteq propto ll gg prec succ preceq succeq preccurlyeq succcurlyeq subset supset subseteq supseteq"
     " subsetneq supsetneq sqsubset sqsupset sqsubseteq sqsupseteq in ni notin mid nmid parallel nparallel perp vdash"
     " dashv models Vdash bowtie"),
    ("≲≳≶≷≜≝≔≕≗≟≢≁≄≇≉≮≯≰≱⊄⊅⊈⊉⊲⊳⊴⊵⋘⋙≬⋔⌢⌣∽≊", "lesssim gtrsim lessgtr gtrless triangleq overset{\\mathrm{def}}{=}"
     " coloneqq eqqcolon circeq overset{?}{=} not\\equiv nsim not\\simeq ncong not\\approx nless ngtr nleq ngeq"
     " not\\subset not\\supset nsubseteq nsupseteq vartriangleleft vartriangleright trianglelefteq trianglerighteq lll"
     " ggg between pitchfork frown smile backsim approxeq"),
    # arrows
    ("←→↑↓↔↕⇐⇒⇑⇓⇔⇕↦⟵⟶⟷⟸⟹⟺⟼↩↪↼⇀↽⇁⇌⇋↗↘↙↖⇝⇄⇆⇉⇇↠↞↣↛↚⇏⇍↺↻↝", "leftarrow to uparrow downarrow leftrightarrow updownarrow"
     " Leftarrow Rightarrow Uparrow Downarrow Leftrightarrow Updownarrow mapsto longleftarrow longrightarrow"
     " longleftrightarrow Longleftarrow Longrightarrow Longleftrightarrow longmapsto hookleftarrow hookrightarrow"
     " leftharpoonup rightharpoonup leftharpoondown rightharpoondown rightleftharpoons leftrightharpoons nearrow"
     " searrow swarrow nwarrow rightsquigarrow rightleftarrows leftrightarrows rightrightarrows leftleftarrows"
     " twoheadrightarrow twoheadleftarrow rightarrowtail nrightarrow nleftarrow nRightarrow nLeftarrow circlearrowleft"
     " circlearrowright leadsto"),
    # letter-like and others
    ("∞∂∇∀∃∄∅⌀¬ℏℓ℘ℜℑℵℶℷ∠∡∢√′″‴⁗‵…⋯⋮⋱⋰∴∵□■◻◼▫▪◊⧫★♠♡♢♣♭♮♯∁⊤⊺ð°", "infty partial nabla forall exists nexists emptyset"
     " emptyset neg hbar ell wp Re Im aleph beth gimel angle measuredangle sphericalangle surd prime prime\\prime"
     " prime\\prime\\prime prime\\prime\\prime\\prime backprime dots cdots vdots ddots ddots therefore because square"
     " blacksquare square blacksquare square blacksquare lozenge blacklozenge bigstar spadesuit heartsuit diamondsuit"
     " clubsuit flat natural sharp complement top intercal eth circ"),
    # fences
    ("⟨⟩〈〉⟪⟫⌈⌉⌊⌋‖∥❘⟦⟧⌜⌝⌞⌟", "langle rangle langle rangle langle\\!\\langle rangle\\!\\rangle lceil rceil lfloor"
     " rfloor Vert Vert vert llbracket rrbracket ulcorner urcorner llcorner lrcorner"),
    ("{}%&#_$", "{ } % & # _ $"),
)  # fmt: skip

_PLAIN = {
    "−": "-", "‐": "-", "‑": "-", "–": "-", "—": "-", "－": "-", "＋": "+", "＝": "=", "＜": "<", "＞": ">", "（": "(",
    "）": ")", "，": ",", "∕": "/", "⁄": "/", "∶": ":", "：": ":", "ˆ": "\\hat{}", "′": "'", "″": "''", "‴": "'''",
    "⁗": "''''", "’": "'", "“": "``", "”": "''", "|": "|", "❘": "|", "\\": "\\backslash", "~": "\\sim", "^": "\\hat{}",
    "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "º": "\\circ", "˚": "\\circ", "≔": ":=",
    "\u00a0": " ", "\u2003": "\\quad", "\u2002": "\\;", "\u2009": "\\,", "\u200a": "\\,", "\u2005": "\\:",
    "\u2004": "\\;", "\u2008": "\\,", "\u202f": "\\,", "\u205f": "\\:", "\u3000": "\\quad",
}  # fmt: skip

_INVISIBLE = dict.fromkeys(
    map(ord, "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\ufeff\u00ad\u200e\u200f\ufe00\ufe0e")
)


def visible(text: str) -> str:
    """The text without characters that hold no place on paper."""
    return text if text.isascii() else text.translate(_INVISIBLE)


FUNCTIONS = frozenset(
    words(
        "arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf ker lg lim liminf limsup ln log max"
        " min Pr sec sin sinh sup tan tanh"
    )
)
"""Names that LaTeX has a command of the same name for."""

_STYLES = {
    "BOLD": "mathbf",
    "BOLD ITALIC": "boldsymbol",
    "ITALIC": "",
    "SCRIPT": "mathcal",
    "BOLD SCRIPT": "mathcal",
    "FRAKTUR": "mathfrak",
    "BLACK-LETTER": "mathfrak",
    "BOLD FRAKTUR": "mathfrak",
    "DOUBLE-STRUCK": "mathbb",
    "SANS-SERIF": "mathsf",
    "SANS-SERIF BOLD": "mathsf",
    "SANS-SERIF ITALIC": "mathsf",
    "SANS-SERIF BOLD ITALIC": "mathsf",
    "MONOSPACE": "mathtt",
}


def _table() -> dict[str, str]:
    table: dict[str, str] = {}
    for characters, commands in _GROUPS:
        names = commands.split()
        if len(names) != len(characters):
            raise AssertionError(f"{characters}: {len(characters)} characters, {len(names)} commands")
        table.update(zip(characters, ("\\" + name for name in names), strict=True))
    return table | _PLAIN


COMMANDS = _table()
"""Character to LaTeX; a character that is its own LaTeX is not in it."""


@cache
def command_of(character: str) -> str:
    """LaTeX for one character: a command, a letter in a style, or the character itself.

    >>> command_of("≤"), command_of("ℝ"), command_of("x")
    ('\\\\le', '\\\\mathbb{R}', 'x')
    """
    if character in COMMANDS:
        return COMMANDS[character]
    if character < "\u2000":
        return character
    style, letter = _styled(unicodedata.name(character, ""))
    if not letter:
        return character
    letter = COMMANDS.get(letter, letter)
    return f"\\{style}{{{letter}}}" if style else letter


def _styled(name: str) -> tuple[str, str]:
    """Style command and plain letter of a character of the mathematical alphabets, by its Unicode name."""
    name = name.removeprefix("MATHEMATICAL ")
    for kind in ("CAPITAL", "SMALL", "DIGIT"):
        style, found, letter = name.partition(f" {kind} ")
        if found and style in _STYLES:
            script = "GREEK" if len(letter) > 1 and kind != "DIGIT" else "LATIN"
            full = f"DIGIT {letter}" if kind == "DIGIT" else f"{script} {kind} LETTER {letter}"
            try:
                return _STYLES[style], unicodedata.lookup(full)
            except KeyError:
                return "", ""
    return "", ""
