"""What LaTeX's names look like: characters, alphabets, fences. Tables for dsm/corpus/annotate/mathml.py."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(text: str) -> dict[str, str]:
    words = text.split()
    return {name: shown.replace("_", "\u202f") or "_" for name, shown in zip(words[::2], words[1::2], strict=True)}


IDENTIFIERS = _table(
    "alpha α beta β gamma γ delta δ epsilon ϵ varepsilon ε zeta ζ eta η theta θ vartheta ϑ iota ι kappa κ varkappa ϰ"
    " lambda λ mu μ nu ν xi ξ omicron ο pi π varpi ϖ rho ρ varrho ϱ sigma σ varsigma ς tau τ upsilon υ phi ϕ varphi φ"
    " chi χ psi ψ omega ω Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ Omega Ω"
    " infty ∞ emptyset ∅ varnothing ∅ ell ℓ hbar ℏ hslash ℏ Re ℜ Im ℑ wp ℘ aleph ℵ beth ℶ imath ı jmath ȷ top ⊤ bot ⊥"
    " angle ∠ measuredangle ∡ triangle △ square □ Box □ blacksquare ■ diamond ⋄ Diamond ◇ clubsuit ♣ heartsuit ♡"
    " spadesuit ♠ diamondsuit ♢ sharp ♯ flat ♭ natural ♮ checkmark ✓ degree ° celsius ℃ pounds £ S § P ¶ copyright ©"
    " dag † ddag ‡ digamma ϝ eth ð complement ∁ qed ∎ R ℝ N ℕ Z ℤ Q ℚ C ℂ bigstar ★ mho ℧ backepsilon ϶"
)
"""Letters and what is set like letters; \\R, \\N, ... as MediaWiki has them."""

OPERATORS = _table(
    "pm ± mp ∓ times × div ÷ cdot ⋅ ast ∗ star ⋆ circ ∘ bullet ∙ oplus ⊕ ominus ⊖ otimes ⊗ oslash ⊘ odot ⊙ cap ∩"
    " cup ∪ uplus ⊎ sqcap ⊓ sqcup ⊔ vee ∨ lor ∨ wedge ∧ land ∧ setminus ∖ smallsetminus ∖ wr ≀ amalg ⨿ ltimes ⋉"
    " rtimes ⋊ le ≤ leq ≤ ge ≥ geq ≥ leqslant ⩽ geqslant ⩾ ll ≪ gg ≫ ne ≠ neq ≠ equiv ≡ sim ∼ simeq ≃ approx ≈ cong ≅"
    " asymp ≍ doteq ≐ propto ∝ varpropto ∝ models ⊨ vdash ⊢ dashv ⊣ vDash ⊨ Vdash ⊩ perp ⟂ mid ∣ nmid ∤ parallel ∥"
    " nparallel ∦ in ∈ ni ∋ owns ∋ notin ∉ subset ⊂ supset ⊃ subseteq ⊆ supseteq ⊇ subsetneq ⊊ supsetneq ⊋"
    " nsubseteq ⊈ sqsubset ⊏ sqsubseteq ⊑ sqsupseteq ⊒ prec ≺ succ ≻ preceq ⪯ succeq ⪰ lesssim ≲ gtrsim ≳ lessgtr ≶"
    " nless ≮ ngtr ≯ nleq ≰ ngeq ≱ ncong ≇ nsim ≁ bowtie ⋈ smile ⌣ frown ⌢ triangleq ≜ coloneqq ≔ coloneq ≔"
    " trianglelefteq ⊴ triangleleft ◁ triangleright ▷ lhd ⊲ rhd ⊳ unlhd ⊴ unrhd ⊵ therefore ∴ because ∵ forall ∀"
    " exists ∃ nexists ∄ neg ¬ lnot ¬ to → rightarrow → gets ← leftarrow ← Rightarrow ⇒ Leftarrow ⇐ leftrightarrow ↔"
    " Leftrightarrow ⇔ implies ⟹ impliedby ⟸ iff ⟺ longrightarrow ⟶ longleftarrow ⟵ Longrightarrow ⟹ Longleftarrow ⟸"
    " longleftrightarrow ⟷ Longleftrightarrow ⟺ mapsto ↦ longmapsto ⟼ hookrightarrow ↪ hookleftarrow ↩ uparrow ↑"
    " downarrow ↓ updownarrow ↕ Uparrow ⇑ Downarrow ⇓ nearrow ↗ searrow ↘ swarrow ↙ nwarrow ↖ rightharpoonup ⇀"
    " rightharpoondown ⇁ leftharpoonup ↼ leftharpoondown ↽ rightleftharpoons ⇌ leftrightharpoons ⇋ rightrightarrows ⇉"
    " leadsto ⇝ rightsquigarrow ⇝ twoheadrightarrow ↠ rightarrowtail ↣ nrightarrow ↛ nRightarrow ⇏ circlearrowright ↻"
    " partial ∂ nabla ∇ prime ′ backprime ‵ surd √ ldots … dots … dotsc … dotsb ⋯ dotsm ⋯ dotsi ⋯ cdots ⋯ vdots ⋮"
    " ddots ⋱ colon : cdotp · ldotp . langle ⟨ rangle ⟩ lfloor ⌊ rfloor ⌋ lceil ⌈ rceil ⌉ lbrace { rbrace } lbrack ["
    " rbrack ] vert | Vert ‖ lvert | rvert | lVert ‖ rVert ‖ lgroup ⟮ rgroup ⟯ backslash ∖ ulcorner ⌜ urcorner ⌝"
    " llcorner ⌞ lrcorner ⌟ boxplus ⊞ boxtimes ⊠ dagger † ddagger ‡ circledast ⊛ between ≬ pitchfork ⋔ Subset ⋐"
    " Supset ⋑ gtrless ≷ leqq ≦ geqq ≧ lneq ⪇ gneq ⪈ precsim ≾ succsim ≿ approxeq ≊ backsim ∽ eqsim ≂ risingdotseq ≓"
    " vartriangleleft ⊲ upharpoonright ↾ restriction ↾ multimap ⊸ barwedge ⊼ veebar ⊻ curlyvee ⋎ curlywedge ⋏"
    " dotplus ∔ divideontimes ⋇"
)
BIG = _table(
    "sum ∑ prod ∏ coprod ∐ bigcup ⋃ bigcap ⋂ bigsqcup ⨆ bigvee ⋁ bigwedge ⋀ bigoplus ⨁ bigotimes ⨂ bigodot ⨀ biguplus ⨄"
)
"""Operators whose limits go below and above in display."""
INTEGRALS = _table("int ∫ iint ∬ iiint ∭ oint ∮ oiint ∯ smallint ∫")

FUNCTIONS = _words(
    "arccos arcsin arctan arg cos cosh cot coth csc deg dim exp hom ker lg ln log sec sin sinh tan tanh sgn tg ctg"
    " arctg arccot arcsec arccsc sech csch erf Tr tr rank Ker Hom End Aut Gal Spec ord"
)
LIMITS = _table(
    "lim lim limsup lim_sup liminf lim_inf max max min min sup sup inf inf det det gcd gcd lcm lcm Pr Pr"
    " argmax arg_max argmin arg_min injlim inj_lim projlim proj_lim varinjlim lim varprojlim lim"
)
"""Functions whose limits go below in display."""

ACCENTS = _table(
    "hat ^ widehat ^ check ˇ widecheck ˇ tilde ~ widetilde ~ acute ´ grave ` dot ˙ ddot ¨ dddot ⃛ breve ˘ bar ‾ vec →"
    " mathring ˚ overline ‾ overrightarrow → overleftarrow ← overleftrightarrow ↔ overbrace ⏞ overparen ⏜ wideparen ⏜"
)
STRETCHED = _words(
    "widehat widecheck widetilde overline overrightarrow overleftarrow overleftrightarrow overbrace overparen wideparen"
    " underline underbrace underrightarrow underleftarrow underparen"
)
UNDER = _table("underline - underbrace ⏟ underrightarrow → underleftarrow ← underparen ⏝")

SPACES = {
    ",": "0.167em", ":": "0.222em", ">": "0.222em", ";": "0.278em", "!": "-0.167em", " ": "0.333em", "quad": "1em",
    "qquad": "2em", "enspace": "0.5em", "enskip": "0.5em", "thinspace": "0.167em", "medspace": "0.222em",
    "thickspace": "0.278em", "negthinspace": "-0.167em", "space": "0.333em", "nobreakspace": "0.333em",
}  # fmt: skip

SIZES = {"big": 1.2, "Big": 1.623, "bigg": 2.047, "Bigg": 2.470}

MATRICES = {
    "matrix": ("", ""), "smallmatrix": ("", ""), "pmatrix": ("(", ")"), "bmatrix": ("[", "]"), "vmatrix": ("|", "|"),
    "Bmatrix": ("{", "}"), "Vmatrix": ("‖", "‖"), "cases": ("{", ""), "dcases": ("{", ""), "rcases": ("", "}"),
    "array": ("", ""), "tabular": ("", ""), "subarray": ("", ""),
}  # fmt: skip
ALIGNED = _words("aligned align alignat alignedat split eqnarray flalign")
CENTRED = _words("gather gathered multline equation displaymath math subequations")

ALPHABETS = {
    "mathbb": "bb", "Bbb": "bb", "mathds": "bb", "mathbbm": "bb", "mathcal": "cal", "cal": "cal", "mathscr": "cal",
    "mathfrak": "frak", "frak": "frak", "mathbf": "bf", "bf": "bf", "textbf": "bf", "boldsymbol": "bi", "bm": "bi",
    "pmb": "bi", "mathsf": "sf", "sf": "sf", "mathtt": "tt", "tt": "tt", "mathrm": "rm", "rm": "rm", "mathup": "rm",
    "mathit": "it", "it": "it", "mathnormal": "it", "em": "it",
}  # fmt: skip
"""Commands that change the alphabet; those that are no `math...` go on to the end of their group."""
SWITCHES = _words("cal frak bf sf tt rm it em")

_STARTS = {  # alphabet: (A, a, 0, capital alpha, alpha)
    "bb": (0x1D538, 0x1D552, 0x1D7D8, 0, 0),
    "cal": (0x1D49C, 0x1D4B6, 0, 0, 0),
    "frak": (0x1D504, 0x1D51E, 0, 0, 0),
    "bf": (0x1D400, 0x1D41A, 0x1D7CE, 0x1D6A8, 0x1D6C2),
    "bi": (0x1D468, 0x1D482, 0x1D7CE, 0x1D71C, 0x1D736),
    "sf": (0x1D5A0, 0x1D5BA, 0x1D7E2, 0, 0),
    "tt": (0x1D670, 0x1D68A, 0x1D7F6, 0, 0),
}
_OLDER = {  # letters that Unicode had before it had the alphabet
    "bb": dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True)),
    "cal": dict(zip("BEFHILMRego", "ℬℰℱℋℐℒℳℛℯℊℴ", strict=True)),
    "frak": dict(zip("CHIRZ", "ℭℌℑℜℨ", strict=True)),
}


def letter(character: str, alphabet: str) -> str:
    """A letter or digit in another alphabet; what has no such form comes back as it is."""
    older = _OLDER.get(alphabet, {})
    if character in older or alphabet not in _STARTS or len(character) != 1:
        return older.get(character, character)
    ranges = zip(_STARTS[alphabet], "Aa0Αα", (26, 26, 10, 25, 25), strict=True)
    for start, first, count in ranges:
        place = ord(character) - ord(first)
        if start and 0 <= place < count:
            return chr(start + place)
    return character


IGNORED = _words(
    "displaystyle textstyle scriptstyle scriptscriptstyle limits nolimits nonumber notag hline hfill allowbreak"
    " nobreak relax mathstrut strut centering noindent protect ensuremath mathop mathrel mathbin mathord mathopen"
    " mathclose mathpunct mathinner smash break normalsize small large Large tiny footnotesize"
)
TEXT = _words("text textrm textnormal mbox hbox textit textsf texttt textup fbox emph textsc")
FENCES = _words("langle rangle lfloor rfloor lceil rceil lbrace rbrace vert Vert lvert rvert lVert rVert mid")
"""Operators that grow with what they enclose only after \\left, \\right and \\big."""
