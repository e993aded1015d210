"""Formulas of a page, in whatever way they are kept, become `$...$` and `$$...$$` in the place where they are read.

A page shows a formula in one way and often keeps it in two more: the glyphs or an image for the eye, MathML for
screen readers, TeX as the source of both. One of them is taken, TeX before MathML before anything, and the others go.
Each pass knows one family of pages. They run from the outside in: what one replaced, later ones do not see. Most pages
have nothing for any of them, which one query tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from resiliparse.parse.html import ElementNode, HTMLTree

from dsm.corpus.extract.dom import attached, attribute, found, own_text, parent_element, put
from dsm.corpus.extract.formulas import asciimath, mathml
from dsm.corpus.extract.formulas.images import tex_of_image
from dsm.corpus.extract.formulas.tex import looks_like_tex
from dsm.corpus.extract.inline import asciimath_in_text, sub_and_superscripts

_PREFIXED = re.compile(r"<(/?)(?:mml|m|math|mathml):(?=[a-z])", re.IGNORECASE)
_TEX_ENCODING = re.compile(r"tex(?![a-z])", re.IGNORECASE)  # not text/plain
_DELIMITER = re.compile(r"\$|\\\(|\\\[|\\begin\s*\{|`")
_DISPLAY_WORD = re.compile(r"display|block|centered|equation", re.IGNORECASE)
_RENDERED = re.compile(r"^(?:MathJax(?:_Preview|_Display|_SVG\w*|_CHTML|_MathML|Mathml)?|mjx-[\w-]+|MJX\w*)(?:\s|$)")

_ATTRIBUTES = ("data-tex", "data-latex", "data-formula", "data-equation-content", "data-equation", "data-katex",
               "data-original-tex", "data-math", "data-expr", "data-value", "latex-data", "data-asciimath")  # fmt: skip
_FREE = frozenset({"data-tex", "data-latex", "data-katex", "data-equation-content", "latex-data", "data-original-tex"})
"""Attributes that hold nothing but TeX; others may hold anything."""
_SOUGHT = ("data-tex", "data-latex", "data-formula", "data-equation-content", "data-equation", "data-asciimath")
"""Attributes to look for in all elements; the others stand on elements whose class says "math" or "formula", too."""
_ELEMENTS = ("tex-math", "math-renderer", "d-math", "la-tex", "formula")
_BARE = frozenset({"tex-math", "math-renderer", "d-math", "la-tex"})
"""Elements whose text is TeX even where it does not look like it, as `x` does not."""
_CLASSES = ('[class*="math" i]', '[class*="katex"]', '[class*="latex"]', '[class*="formula"]', '[class*="equation"]',
            ".tex")  # fmt: skip

_CARRIERS = ", ".join([*(f"[{name}]" for name in _SOUGHT), *_ELEMENTS, *_CLASSES])
_ANY = ", ".join(
    [
        "math", "sup", "sub", "tex-math", "d-math", "mjx-container", *_CLASSES, "[data-tex]", "[data-formula]",
        'script:is([type^="math/"], [src*="mathjax" i], [src*="katex" i], [src*="asciimath" i], [src*="AM_"])',
        'img:is([alt*="\\\\"], [alt*="^"], [alt*="_{"], [src*="tex"], [src*="equation"], [src*="math"],'
        ' [src*="cht=tx"], [eeimg])',
    ]
)  # fmt: skip
_IMAGES = (
    'img:is([alt*="\\\\"], [alt*="^"], [alt*="_{"], [src*="tex" i], [src*="equation"], [src*="math"], [src*="cht=tx"],'
    ' [data-src*="tex"], [data-original*="tex"], [class*="tex" i], [class*="math"], [class*="equation"],'
    ' [class*="formula"], [data-equation-content], [data-formula], [eeimg])'
)


def normalise_source(html: str) -> str:
    """The source with prefixed MathML (`<m:mi>`) as the parser of HTML knows it (`<mi>`)."""
    return _PREFIXED.sub(r"<\1", html) if ":math" in html else html


def has_formulas(tree: HTMLTree) -> bool:
    """Whether there is anything to rewrite, or a script that typesets formulas; a page without needs no more looks."""
    return tree.document is not None and tree.document.query_selector(_ANY) is not None


def rewrite(tree: HTMLTree) -> int:
    """Rewrite all formulas of a parsed page in place; returns how many were set."""
    return sum(each(tree) for each in _PASSES)


def _tex_of_math(math: ElementNode) -> str:
    """LaTeX of a `<math>` element: the source it was made from where it is kept, else its translation."""
    for annotation in math.query_selector_all("annotation").values():
        if _TEX_ENCODING.search(attribute(annotation, "encoding")) and (tex := (annotation.text or "").strip()):
            return tex
    alternative = attribute(math, "alttext").strip()
    if looks_like_tex(alternative):
        return alternative
    if math.first_element_child is None:  # MediaWiki's markup as it was written
        return (math.text or "").strip() or alternative
    return mathml.latex(math) or (alternative if len(alternative) <= 40 else "")


def _parsed_math(source: str) -> str:
    """LaTeX of MathML that is kept as text."""
    tree = HTMLTree.parse(normalise_source(source))
    math = tree.document.query_selector("math") if tree.document is not None else None
    return _tex_of_math(math) if isinstance(math, ElementNode) else ""


def _is_block(math: ElementNode) -> bool:
    return attribute(math, "display") == "block" or attribute(math, "mode") == "display"


def _katex(tree: HTMLTree) -> int:
    """KaTeX writes MathML with its source for screen readers, then spans for the eye."""
    done = 0
    for node in found(tree, ".katex"):
        maths = node.query_selector_all("math").values()
        if len(maths) != 1 or not attached(node):  # a class of articles, too
            continue
        math = maths[0]
        parent = parent_element(node)
        block = _is_block(math) or (parent is not None and "katex-display" in (parent.class_name or ""))
        done += put(tree, node, _tex_of_math(math), block=block)
    for node in found(tree, ".katex-html"):  # of formulas that had MathML beside and not around them
        if node.query_selector(".katex-mathml") is None and _has_math_before(node):
            node.decompose()
    return done


def _has_math_before(node: ElementNode) -> bool:
    before = node.previous_element_sibling
    return before is not None and "katex-mathml" in (before.class_name or "")


def _wikipedia(tree: HTMLTree) -> int:
    """MediaWiki writes hidden MathML with its source and an image, in one span."""
    done = 0
    for node in found(tree, ".mwe-math-element"):
        math = node.query_selector("math")
        image = node.query_selector("img")
        if not attached(node) or (math is None and image is None):
            continue
        tex = _tex_of_math(math) if math is not None else attribute(image, "alt") if image is not None else ""
        shown = attribute(math, "display") == "block" if math is not None else False
        block = shown or "display" in (attribute(image, "class") if image is not None else "")
        done += put(tree, node, tex, block=block)
    return done


def _scripts(tree: HTMLTree) -> int:
    """MathJax 2 keeps what it typeset in scripts of types that no browser runs."""
    done = 0
    for node in found(tree, 'script[type^="math/"]'):
        if not attached(node):
            continue
        before = node.previous_element_sibling
        while before is not None and _is_rendering(before):
            before.decompose()
            before = node.previous_element_sibling
        kind = attribute(node, "type")
        source = node.text or ""
        if "mml" in kind:
            tex = _parsed_math(source)
        elif "ascii" in kind:
            tex = asciimath.latex(source)
        else:
            tex = source
        done += put(tree, node, tex, block="display" in kind)
    return done


def _is_rendering(node: ElementNode) -> bool:
    if node.tag in ("mjx-container", "nobr"):
        return True
    if _RENDERED.match(node.class_name or ""):
        return True
    inner = node.first_element_child  # <div class="MathJax_Display"> and the like, in a span of no class
    return node.tag in ("span", "div") and inner is not None and not own_text(node).strip() and _is_rendering(inner)


def _mathjax(tree: HTMLTree) -> int:
    """What MathJax typeset where it kept no script: assistive MathML, or an attribute with MathML or TeX."""
    done = 0
    selector = 'mjx-container, [class^="MathJax"], [class^="mjx-chtml"], [class^="mjx-math"]'
    for node in found(tree, selector):
        maths = node.query_selector_all("math").values()
        rendering = node.tag == "mjx-container" or _RENDERED.match(node.class_name or "") is not None
        if not rendering or len(maths) > 1 or not attached(node):
            continue
        kept = node if node.has_attribute("data-mathml") else node.query_selector("[data-mathml]")
        source = node.query_selector("mjx-math[data-latex], g[data-latex]")
        block = attribute(node, "display") in ("true", "block") or "Display" in (node.class_name or "")
        if source is not None:
            done += put(tree, node, attribute(source, "data-latex"), block=block)
        elif maths:
            done += put(tree, node, _tex_of_math(maths[0]), block=block or _is_block(maths[0]))
        elif kept is not None:
            done += put(tree, node, _parsed_math(attribute(kept, "data-mathml")), block=block)
        elif node.tag == "mjx-container" and (text := (node.text or "").strip()):
            done += put(tree, node, text, block=block)
    return done


def _carriers(tree: HTMLTree) -> int:
    """Elements and attributes of particular sites and editors that hold TeX, delimited or not."""
    done = 0
    for node in found(tree, _CARRIERS):
        if node.tag in ("img", "math", "input", "textarea", "script", "body", "html") or not attached(node):
            continue
        tex = next((tex for name in _ATTRIBUTES if (tex := _in_attribute(node, name))), "") or _as_text(node)
        if not tex:
            continue
        name = f"{node.tag} {node.class_name or ''} {attribute(node, 'data-math-style')} {attribute(node, 'mode')}"
        parent = parent_element(node)
        if node.tag == "tex-math" and parent is not None:  # JATS gives alternatives side by side
            for other in parent.query_selector_all("math").values():
                other.decompose()
        block = (_DISPLAY_WORD.search(name) is not None and "inline" not in name) or node.tag == "div"
        done += put(tree, node, tex, block=block)
    return done


def _in_attribute(node: ElementNode, name: str) -> str:
    """The formula in an attribute, or "" if it holds something else."""
    value = attribute(node, name).strip()
    if not value or len(value) > 4000 or value.lower() in ("true", "false", "0", "1", "inline", "display", "block"):
        return ""
    if name == "data-asciimath":
        return asciimath.latex(value)
    if value.startswith("<math"):
        return _parsed_math(value)
    free = name in _FREE
    if value.startswith(('{"', "[{", "http")) or len(node.text or "") > 4 * len(value) + (200 if free else 0):
        return ""
    return value if free or looks_like_tex(value) else ""


def _as_text(node: ElementNode) -> str:
    """The formula an element holds as bare text, without delimiters that readers would see; "" if it is none."""
    classes = (node.class_name or "").split()
    child = node.first_element_child
    if (child is not None and child.tag != "code") or (node.tag in ("div", "p", "td") and len(node.text or "") > 2000):
        return ""
    text = (node.text or "").strip()
    if "asciimath" in classes:
        return asciimath.latex(text.strip("`")) if text else ""
    if "\\begin{document}" in text:
        return text.partition("\\begin{document}")[2].partition("\\end{document}")[0].strip()
    if _DELIMITER.search(text) and not text.startswith("\\begin"):
        return ""
    return text if node.tag in _BARE or looks_like_tex(text) else ""


def _mathml(tree: HTMLTree) -> int:
    """MathML that stands in the page by itself."""
    done = 0
    for node in found(tree, "math"):
        if not attached(node):
            continue
        parent = parent_element(node)
        block = _is_block(node) or (parent is not None and "display" in (parent.class_name or ""))
        after = node.next_element_sibling
        if after is not None and after.tag == "img" and "fallback" in (after.class_name or ""):
            after.decompose()
        done += put(tree, node, _tex_of_math(node), block=block)
    return done


def _images(tree: HTMLTree) -> int:
    """Images drawn from TeX."""
    done = 0
    for node in found(tree, _IMAGES):
        sources = [attribute(node, name) for name in ("src", "data-src", "data-lazy-src", "data-original")]
        alt = attribute(node, "data-equation-content") or attribute(node, "alt") or attribute(node, "data-formula")
        classes = (node.class_name or "") + (" ee_img" if node.has_attribute("eeimg") else "")
        tex = tex_of_image(sources, alt or attribute(node, "title"), classes)
        if tex is not None and attached(node):
            done += put(tree, node, tex, block="center" in classes or "display" in classes)
    return done


_PASSES: tuple[Callable[[HTMLTree], int], ...] = (
    _katex, _wikipedia, _scripts, _mathjax, _carriers, _mathml, _images, asciimath_in_text, sub_and_superscripts,
)  # fmt: skip
