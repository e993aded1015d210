"""Academic papers as arXiv has their LaTeX, without preamble, comments and bibliography: mathematics without sums.

They define, claim, prove and cite; nothing in them is calculated, which is what the paper found to help so little.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from dsm.corpus.crawl.mathematics import AREAS
from dsm.corpus.crawl.pen import Pen, Slots, formula_pool, words

_THINGS = words(
    "sheaf|functor|manifold|cohomology class|vector bundle|algebra|module|operator|semigroup|measure|foliation|scheme",
    "spectral sequence|representation|lattice|flow|kernel|distribution|connection|torsor|stack|filtration|character",
    "resolvent|orbit|moduli space|quotient|section|complex|automorphism|embedding|fibration|subgroup|cocycle|germ",
)
_LIKE = words(
    "smooth|proper|flat|coherent|reductive|nilpotent|unramified|hyperbolic|elliptic|ergodic|holomorphic|semisimple",
    "quasi-compact|equivariant|projective|tame|regular|generic|self-adjoint|essentially bounded|locally finite|exact",
    "strictly convex|Noetherian|amenable|residually finite|torsion-free|simply connected|rational|weakly mixing",
)
_ABSTRACT = [
    "We study {l} {t}s on {l} {t}s and prove that {f}.",
    "We show that every {l} {t} admits a {l} {t}, answering a question of {P}.",
    "This extends results of {P} and {P} to the {l} case.",
    "As an application we obtain bounds for the {t} of a {l} {t}.",
    "The proof relies on a {l} version of the {P} {t}.",
    "We introduce the notion of a {P} {t} and establish its basic properties.",
    "Our methods combine {r} with techniques from {r}.",
]
_INTRO = [
    "The study of {l} {t}s goes back to {P} \\cite{{c}}; see also \\cite{{c},{c}}.",
    "Throughout we assume that {f} and that all {t}s are {l}.",
    "In {r} the corresponding statement is due to {P} \\cite{{c}}.",
    "It is natural to ask whether the {t} of a {l} {t} is {l}.",
    "The paper is organised as follows: in Section~\\ref{sec:{c}} we recall the theory of {l} {t}s.",
    "We thank {P} for pointing out that the {t} need not be {l}.",
    "A {l} {t} in the sense of {P} \\cite{{c}} is a {t} whose {t} is {l}.",
]
_STATEMENTS = [
    "Let {f} be a {l} {t} over a {l} {t}. Then {f} if and only if {f}.",
    "Suppose that {f}. Then the {t} of {f} is {l}.",
    "Every {l} {t} with {f} is isomorphic to a {l} {t}.",
    "Assume \\eqref{eq:{c}}. There exists a {l} {t} such that {f} holds for all {f}.",
    "If the {t} is {l}, then so is its {t}, and {f}.",
    "A {t} is called {P}-{l} if {f} for every {l} {t}.",
]
_ARGUMENTS = [
    "By Lemma~\\ref{lem:{c}} we may replace the {t} by a {l} {t}.",
    "The claim follows from \\cite[Theorem {i}]{{c}} applied to the {t} of {f}.",
    "Since the {t} is {l}, the map {f} factors through a {l} {t}.",
    "Passing to a {l} {t} if necessary, we may assume {f}.",
    "Consider the {l} {t} associated with {f}.",
    "This contradicts the assumption that {f} is {l}.",
    "The general case follows by {l} descent.",
    "Combining this with \\eqref{eq:{c}} gives {f}, as desired.",
    "It remains to verify that the {t} of {f} is {l}, which is clear.",
]
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")
_ENVIRONMENTS = [
    ("definition", "def"),
    ("lemma", "lem"),
    ("theorem", "thm"),
    ("proposition", "prop"),
    ("remark", "rem"),
]


def academic(rng: random.Random, seed: int) -> tuple[str, str, str]:
    """A text, its language and its kind."""
    write = _Paper(rng, seed)
    kind = rng.choice(["abstract", "introduction", "section", "section"])
    return _KINDS[kind](write), "en", kind


class _Paper:
    """Fills sentences with words and formulas."""

    def __init__(self, rng: random.Random, seed: int) -> None:
        self.rng, self.pen, self.pool = rng, Pen(rng, seed), formula_pool(seed)
        pick = self.pen.pick
        self.fill: Slots = {
            "t": lambda: pick(_THINGS),
            "l": lambda: pick(_LIKE),
            "r": lambda: pick(AREAS),
            "f": lambda: f"${rng.choice(self.pool['inline']).latex}$",
            "P": self.pen.name,
            "c": lambda: f"{self.pen.name().lower()}{rng.randint(1, 99)}",
            "i": lambda: f"{rng.randint(1, 9)}.{rng.randint(1, 30)}",
        }

    def say(self, sentences: list[str], low: int, high: int) -> str:
        """So many sentences."""
        return " ".join(self.line(self.pen.pick(sentences)) for _ in range(self.rng.randint(low, high)))

    def line(self, template: str) -> str:
        """A filled sentence."""
        return _ARTICLE.sub(r"\1n ", self.pen.fill(template, self.fill))

    def equation(self) -> str:
        """A displayed formula with a label."""
        label = self.line("\\label{eq:{c}}")
        return f"\\begin{{equation}}{label}\n{self.rng.choice(self.pool['display']).latex}\n\\end{{equation}}"


def _abstract(p: _Paper) -> str:
    title = p.line(p.rng.choice(["On {l} {t}s", "{l} {t}s and a question of {P}", "The {t} of a {l} {t} in {r}"]))
    return f"\\title{{{title}}}\n\\begin{{abstract}}\n{p.say(_ABSTRACT, 3, 6)}\n\\end{{abstract}}"


def _introduction(p: _Paper) -> str:
    parts = ["\\section{Introduction}", p.say(_INTRO, 3, 6), p.equation(), p.say(_INTRO, 2, 4)]
    return "\n\n".join([_abstract(p), *parts])


def _section(p: _Paper) -> str:
    parts = [p.line("\\section{{l} {t}s}\\label{sec:{c}}"), p.say(_INTRO, 1, 3)]
    for _ in range(p.rng.randint(1, 4)):
        name, short = p.rng.choice(_ENVIRONMENTS)
        label = p.line(f"\\label{{{short}:{{c}}}}")
        parts.append(f"\\begin{{{name}}}{label}\n{p.say(_STATEMENTS, 1, 2)}\n\\end{{{name}}}")
        if name not in ("definition", "remark"):
            shown = f"\n{p.equation()}\n" if p.rng.random() < 0.5 else " "
            parts.append(f"\\begin{{proof}}\n{p.say(_ARGUMENTS, 1, 4)}{shown}{p.say(_ARGUMENTS, 1, 2)}\n\\end{{proof}}")
    return "\n\n".join(parts)


_KINDS: dict[str, Callable[[_Paper], str]] = {
    "abstract": _abstract,
    "introduction": _introduction,
    "section": _section,
}
