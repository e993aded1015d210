"""Which characters and commands are only another spelling: the tables behind `normalise`."""

from __future__ import annotations


def _pairs(text: str) -> dict[str, str]:
    """A table from text: `key value`, two spaces between entries; a key without a value maps to ""."""
    entries = (entry.partition(" ") for line in text.splitlines() for entry in line.split("  ") if entry.strip())
    return {key: value for key, _, value in entries}


def _command(table: dict[str, str]) -> dict[str, str]:
    """The table with a space behind every value that is a command."""
    return {
        key: f"{value} " if value.startswith("\\") and value[-1].isalpha() else value for key, value in table.items()
    }


CHARACTERS = _command(
    _pairs(r"""
− -  – -  — -  ‐ -  ‑ -  ﹣ -  ∗ *  ÷ \div  ∕ /  ⁄ /  × \times  ✕ \times  · \cdot  ⋅ \cdot  ∙ \cdot  • \cdot
√ \sqrt  ∛ \cbrt  ∞ \infty  ± \pm  ∓ \mp  ∑ \sum  ∏ \prod  ∠ \angle  △ \triangle  ‰ \permil  ∣ |  ⅈ i  ⅇ e
≤ \le  ≦ \le  ⩽ \le  ≥ \ge  ≧ \ge  ⩾ \ge  ≠ \ne  ≈ \approx  ≅ \approx  ≃ \approx  ≡ \equiv  → \to  ⇒ \Rightarrow
∪ \cup  ⋃ \cup  ∩ \cap  ∈ \in  ∉ \notin  ∅ \emptyset  ∖ \setminus  ∧ \wedge  ∨ \vee  … \ldots  ⋯ \ldots
° \degree  º \degree  ˚ \degree  ′ '  ’ '  ‘ '  ″ ''  “ "  ” "  ， ,  。 .  ； ;  ： :  、 ,  〔 [  〕 ]
⟨ \langle  ⟩ \rangle  〈 \langle  〉 \rangle  ⌊ \lfloor  ⌋ \rfloor  ⌈ \lceil  ⌉ \rceil
ℝ \mathbb{R}  ℤ \mathbb{Z}  ℕ \mathbb{N}  ℚ \mathbb{Q}  ℂ \mathbb{C}
½ \frac{1}{2}  ⅓ \frac{1}{3}  ⅔ \frac{2}{3}  ¼ \frac{1}{4}  ¾ \frac{3}{4}  ⅕ \frac{1}{5}  ⅖ \frac{2}{5}  ⅗ \frac{3}{5}
⅘ \frac{4}{5}  ⅙ \frac{1}{6}  ⅚ \frac{5}{6}  ⅛ \frac{1}{8}  ⅜ \frac{3}{8}  ⅝ \frac{5}{8}  ⅞ \frac{7}{8}
⅐ \frac{1}{7}  ⅑ \frac{1}{9}  ⅒ \frac{1}{10}
α \alpha  β \beta  γ \gamma  δ \delta  ε \epsilon  ϵ \epsilon  ζ \zeta  η \eta  θ \theta  ϑ \theta  ι \iota  κ \kappa
λ \lambda  μ \mu  µ \mu  ν \nu  ξ \xi  ο o  π \pi  ρ \rho  ς \sigma  σ \sigma  τ \tau  υ \upsilon  φ \phi  ϕ \phi
χ \chi  ψ \psi  ω \omega  Γ \Gamma  Δ \Delta  Θ \Theta  Λ \Lambda  Ξ \Xi  Π \Pi  Σ \Sigma  Φ \Phi  Ψ \Psi  Ω \Omega
""")
)
"""A character -> its LaTeX or ASCII spelling."""
CHARACTERS |= dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u2061\u2062\u00ad\x00", "")
CHARACTERS |= dict.fromkeys("\u2009\u202f\u2007\u2008", r"\,") | {"\u00a0": "~"}

RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₓₖ", "0123456789+-()nxk")

COMMANDS = _command(
    _pairs(r"""
dfrac \frac  tfrac \frac  cfrac \frac  sfrac \frac  nicefrac \frac  dbinom \binom  tbinom \binom  times \cdot  ast *
leq \le  leqslant \le  geq \ge  geqslant \ge  neq \ne  lt <  gt >  approxeq \approx  simeq \approx  cong \approx
thickapprox \approx  implies \Rightarrow  Longrightarrow \Rightarrow  iff \Rightarrow  land \wedge  lor \vee  colon :
dots \ldots  cdots \ldots  dotsc \ldots  dotsb \ldots  dotsm \ldots  vdots \ldots  hdots \ldots
lbrace \{  rbrace \}  lbrack [  rbrack ]  lvert |  rvert |  vert |  mid |  lVert \|  rVert \|  Vert \|
varnothing \emptyset  empty \emptyset  smallsetminus \setminus  backslash \setminus  infin \infty  textdegree \degree
varepsilon \epsilon  varphi \phi  vartheta \theta  varpi \pi  minus -  plus +  dollar \$
textdollar \$  euro €  pounds £
real \mathbb{R}  reals \mathbb{R}  Reals \mathbb{R}  RR \mathbb{R}  R \mathbb{R}  ZZ \mathbb{Z}  Z \mathbb{Z}
NN \mathbb{N}  N \mathbb{N}  QQ \mathbb{Q}  Q \mathbb{Q}  CC \mathbb{C}
""")
)
"""A command, without its backslash -> the one that the parser knows."""
