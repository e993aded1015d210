"""The words and signs of AsciiMath (asciimath.org's tables), and their LaTeX."""

from __future__ import annotations

from dsm.corpus.extract.formulas.characters import FUNCTIONS
from dsm.corpus.extract.formulas.tex import words

_GREEK = words(
    "alpha beta chi delta Delta epsilon varepsilon eta gamma Gamma iota kappa lambda Lambda mu nu omega Omega phi"
    " varphi Phi pi Pi psi Psi rho sigma Sigma tau theta vartheta Theta upsilon xi Xi zeta"
)
_SIGNS = """
* \\cdot | ** \\ast | *** \\star | // / | \\\\ \\backslash | xx \\times | times \\times | |>< \\ltimes | ><| \\rtimes
|><| \\bowtie | -: \\div | div \\div | divide \\div | @ \\circ | o+ \\oplus | ox \\otimes | o. \\odot | sum \\sum
prod \\prod | ^^ \\wedge | wedge \\wedge | ^^^ \\bigwedge | vv \\vee | vee \\vee | vvv \\bigvee | nn \\cap | cap \\cap
nnn \\bigcap | uu \\cup | cup \\cup | uuu \\bigcup | != \\ne | ne \\ne | := := | lt < | <= \\le | le \\le | lt= \\le
leq \\le | gt > | >= \\ge | ge \\ge | gt= \\ge | geq \\ge | mlt \\ll | ll \\ll | mgt \\gg | gg \\gg | -< \\prec
-lt \\prec | >- \\succ | -<= \\preceq | >-= \\succeq | in \\in | !in \\notin | notin \\notin | sub \\subset
subset \\subset | sup \\supset | supset \\supset | sube \\subseteq | subseteq \\subseteq | supe \\supseteq
supseteq \\supseteq | -= \\equiv | equiv \\equiv | ~= \\cong | cong \\cong | ~~ \\approx | approx \\approx | ~ \\sim
sim \\sim | prop \\propto | propto \\propto | not \\neg | neg \\neg | => \\implies | implies \\implies | <=> \\iff
iff \\iff | AA \\forall | forall \\forall | EE \\exists | exists \\exists | _|_ \\bot | bot \\bot | TT \\top | top \\top
|-- \\vdash | |== \\models | int \\int | oint \\oint | del \\partial | partial \\partial | grad \\nabla | nabla \\nabla
+- \\pm | pm \\pm | -+ \\mp | mp \\mp | O/ \\emptyset | emptyset \\emptyset | oo \\infty | infty \\infty | aleph \\aleph
... \\ldots | ldots \\ldots | :. \\therefore | therefore \\therefore | :' \\because | because \\because | /_ \\angle
angle \\angle | /_\\ \\triangle | triangle \\triangle | ' ' | prime ' | frown \\frown | quad \\quad | qquad \\qquad
cdots \\cdots | vdots \\vdots | ddots \\ddots | diamond \\diamond | square \\square | CC \\mathbb{C} | NN \\mathbb{N}
QQ \\mathbb{Q} | RR \\mathbb{R} | ZZ \\mathbb{Z} | hbar \\hbar | ell \\ell | dx dx | dy dy | dz dz | dt dt
uarr \\uparrow | uparrow \\uparrow | darr \\downarrow | downarrow \\downarrow | rarr \\to | -> \\to | to \\to
rightarrow \\to | >-> \\rightarrowtail | ->> \\twoheadrightarrow | |-> \\mapsto | mapsto \\mapsto | larr \\leftarrow
leftarrow \\leftarrow | harr \\leftrightarrow | leftrightarrow \\leftrightarrow | rArr \\Rightarrow
Rightarrow \\Rightarrow | lArr \\Leftarrow | Leftarrow \\Leftarrow | hArr \\Leftrightarrow
Leftrightarrow \\Leftrightarrow | cdot \\cdot | star \\star | ast \\ast | circ \\circ | bigcap \\bigcap
bigcup \\bigcup | setminus \\setminus | mod \\bmod | lub \\operatorname{lub} | glb \\operatorname{glb}
"""

FENCES_OPEN = {"(": "(", "[": "[", "{": "\\{", "(:": "\\langle", "langle": "\\langle", "<<": "\\langle", "{:": ".",
               "|__": "\\lfloor", "lfloor": "\\lfloor", "|~": "\\lceil", "lceil": "\\lceil", "left(": "(",
               "left[": "["}  # fmt: skip
FENCES_CLOSE = {")": ")", "]": "]", "}": "\\}", ":)": "\\rangle", "rangle": "\\rangle", ">>": "\\rangle", ":}": ".",
                "__|": "\\rfloor", "rfloor": "\\rfloor", "~|": "\\rceil", "rceil": "\\rceil", "right)": ")",
                "right]": "]"}  # fmt: skip
UNARY = {
    "sqrt": "\\sqrt{%s}", "abs": "\\left|%s\\right|", "norm": "\\left\\|%s\\right\\|",
    "floor": "\\left\\lfloor %s\\right\\rfloor",
    "ceil": "\\left\\lceil %s\\right\\rceil", "hat": "\\hat{%s}", "bar": "\\overline{%s}", "overline": "\\overline{%s}",
    "ul": "\\underline{%s}", "underline": "\\underline{%s}", "vec": "\\vec{%s}", "tilde": "\\tilde{%s}",
    "dot": "\\dot{%s}", "ddot": "\\ddot{%s}", "overarc": "\\overset{\\frown}{%s}", "ubrace": "\\underbrace{%s}",
    "underbrace": "\\underbrace{%s}", "obrace": "\\overbrace{%s}", "overbrace": "\\overbrace{%s}",
    "cancel": "\\cancel{%s}",
    "bb": "\\mathbf{%s}", "mathbf": "\\mathbf{%s}", "bbb": "\\mathbb{%s}", "mathbb": "\\mathbb{%s}",
    "cc": "\\mathcal{%s}", "mathcal": "\\mathcal{%s}", "tt": "\\mathtt{%s}", "mathtt": "\\mathtt{%s}",
    "fr": "\\mathfrak{%s}", "mathfrak": "\\mathfrak{%s}", "sf": "\\mathsf{%s}", "mathsf": "\\mathsf{%s}",
    "rm": "\\mathrm{%s}",
}  # fmt: skip
BINARY = {"frac": "\\frac{%s}{%s}", "root": "\\sqrt[%s]{%s}", "stackrel": "\\overset{%s}{%s}",
          "overset": "\\overset{%s}{%s}", "underset": "\\underset{%s}{%s}"}  # fmt: skip
TEXTS = ("text", "mbox")
NAMES = FUNCTIONS | {"sech", "csch", "Sin", "Cos", "Tan", "Ln", "Log"} - {"Pr"}
"""Functions: `sin x/2` is `\\sin x` over 2? No: AsciiMath takes the argument with it, as `\\frac{\\sin x}{2}`."""


def _constants() -> dict[str, str]:
    entries = [entry.split(maxsplit=1) for line in _SIGNS.strip().splitlines() for entry in line.split(" | ")]
    table = {name: tex.strip() for name, tex in entries}
    table |= {name: f"\\{name}" for name in _GREEK}
    table |= {"and": "\\text{ and }", "or": "\\text{ or }", "if": "\\text{if }"}
    return table


CONSTANTS = _constants()
