"""Formulas of pages in each way that pages keep them, to the exact text that must come out."""

from __future__ import annotations

import pytest

from dsm.corpus.extract import extract

KATEX = (
    '<span class="katex"><span class="katex-mathml"><math><semantics><msup><mi>x</mi><mn>2</mn></msup>'
    '<annotation encoding="application/x-tex">x^2</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true"><span class="base">x<sup>2</sup></span></span></span>'
)
WIKIPEDIA = (
    '<span class="mwe-math-element"><span class="mwe-math-mathml-inline mwe-math-mathml-a11y" style="display:none">'
    '<math alttext="{\\displaystyle x}"><semantics><mi>x</mi><annotation encoding="application/x-tex">'
    "{\\displaystyle x}</annotation></semantics></math></span>"
    '<img src="/media/math/a" class="mwe-math-fallback-image-inline" alt="{\\displaystyle x}"></span>'
)
MATHJAX2 = (
    '<span class="MathJax_Preview">x2</span><span class="MathJax" id="MathJax-Element-1-Frame"'
    ' data-mathml="&lt;math&gt;&lt;mi&gt;x&lt;/mi&gt;&lt;/math&gt;"><nobr><span>x</span></nobr>'
    '<span class="MJX_Assistive_MathML"><math><mi>x</mi></math></span></span>'
    '<script type="math/tex" id="MathJax-Element-1">x_1</script>'
)
JATS = (
    "<alternatives><tex-math>\\documentclass{x}\\begin{document}$x^2$\\end{document}</tex-math>"
    "<mml:math><mml:msup><mml:mi>x</mml:mi><mml:mn>2</mml:mn></mml:msup></mml:math></alternatives>"
)
QUILL = f'<span class="ql-formula" data-value="x^2"><span contenteditable="false">{KATEX}</span></span>'
CODECOGS = "http://latex.codecogs.com/gif.latex?\\dpi{110}%20\\bg_white%20x&amp;space;=&amp;plus;1"
WORDPRESS = "https://s0.wp.com/latex.php?latex=%5Calpha+%2B+1&amp;bg=ffffff&amp;fg=000"

INLINE = {
    "katex": (KATEX, "$x^2$"),
    "quill over katex": (QUILL, "$x^2$"),
    "wikipedia": (WIKIPEDIA, "${\\displaystyle x}$"),
    "wikipedia of old": ('<img class="tex" alt="x^2" src="//upload.wikimedia.org/math/a.png">', "$x^2$"),
    "mathjax 2": (MATHJAX2, "$x_1$"),
    "mathjax 2 in XHTML": ('<script type="math/tex">% <![CDATA[\nx<y %]]></script>', "$x<y$"),
    "mathjax 2 without its script": (
        '<span class="MathJax" data-mathml="&lt;math&gt;&lt;mfrac&gt;&lt;mi&gt;x&lt;/mi&gt;&lt;mn&gt;2&lt;/mn&gt;'
        '&lt;/mfrac&gt;&lt;/math&gt;"><nobr>x2</nobr></span>',
        r"$\frac{x}{2}$",
    ),
    "mathjax 2, MathML": ('<script type="math/mml"><math><msqrt><mi>x</mi></msqrt></math></script>', r"$\sqrt{x}$"),
    "mathjax 2, AsciiMath": ('<script type="math/asciimath">x/2</script>', r"$\frac{x}{2}$"),
    "mathjax 3": (
        '<mjx-container class="MathJax"><mjx-math aria-hidden="true"><mjx-mi>x</mjx-mi></mjx-math><mjx-assistive-mml>'
        "<math><msqrt><mi>x</mi></msqrt></math></mjx-assistive-mml></mjx-container>",
        r"$\sqrt{x}$",
    ),
    "mathjax 4": (
        '<mjx-container class="MathJax"><svg><g data-latex="x^2+1"><g data-latex="x"></g></g></svg></mjx-container>',
        "$x^2+1$",
    ),
    "comment in TeX": ('<script type="math/tex">x % the unknown\n+ 50\\%</script>', r"$x + 50\%$"),
    "MathML": ("<math><mi>x</mi><mo>=</mo><mn>1</mn></math>", "$x = 1$"),
    "MathML with a prefix": ('<m:math><m:mi>x</m:mi><m:mspace width="1em"/><m:mn>1</m:mn></m:math>', r"$x\quad 1$"),
    "MathML with alternative text": ('<math alttext="\\sqrt{2}"><msqrt><mn>2</mn></msqrt></math>', r"$\sqrt{2}$"),
    "LaTeXML": (
        '<math class="ltx_Math" alttext="x\\in A" display="inline"><semantics><mi>x</mi>'
        '<annotation-xml encoding="MathML-Content"><ci>x</ci></annotation-xml>'
        '<annotation encoding="text/plain">x in A</annotation>'
        '<annotation encoding="application/x-tex">x\\in A</annotation>'
        '<annotation encoding="application/x-llamapun">x element-of A</annotation></semantics></math>',
        r"$x\in A$",
    ),
    "markup in math": ("<math>\\frac{1}{2}</math>", r"$\frac{1}{2}$"),
    "MathML hidden beside an image": (
        '<span style="display:none"><math><mi>x</mi></math></span><img alt="" src="a.png">',
        "$x$",
    ),
    "JATS": (JATS, "$x^2$"),
    "wordpress": (f'<img src="{WORDPRESS}" class="latex" alt="">', r"$\alpha + 1$"),
    "wordpress in text": ("$latex y^2$", "$y^2$"),
    "codecogs by address": (f'<img src="{CODECOGS}">', "$x =+1$"),
    "codecogs by text": (f'<img src="{CODECOGS}" alt="x = 1_{{a}}">', "$x = 1_{a}$"),
    "lazy codecogs": (f'<img src="data:image/gif;base64,R0" class="tex" data-src="{CODECOGS}">', "$x =+1$"),
    "mimetex": ('<img src="/cgi-bin/mimetex.cgi?\\frac{1}{2}">', r"$\frac{1}{2}$"),
    "mathtex": ('<img src="http://www.forkosh.com/mathtex.cgi?x%5E2">', "$x^2$"),
    "google chart": ('<img src="http://chart.apis.google.com/chart?cht=tx&amp;chl=x%5E2%2B1">', "$x^2+1$"),
    "github": ('<img src="https://render.githubusercontent.com/render/math?math=e%5E%7Bi%5Cpi%7D">', r"$e^{i\pi}$"),
    "zhihu's image": ('<img src="https://www.zhihu.com/equation?tex=x%2B1" alt="x+1" eeimg="1">', "$x+1$"),
    "zhihu's span": ('<span class="ztext-math" data-eeimg="1" data-tex="x+\\beta">x+\\beta</span>', r"$x+\beta$"),
    "moodle": ('<img class="texrender" alt="\\sqrt{2}" src="/filter/tex/pix.php/0a.gif">', r"$\sqrt{2}$"),
    "canvas": ('<img class="equation_image" data-equation-content="x+y" alt="LaTeX: x+y" src="/e/x">', "$x+y$"),
    "dollars in alt": ('<img class="latex" alt="$x$" src="//latex.artofproblemsolving.com/a.png">', "$x$"),
    "chart of something else": ('<img src="http://chart.apis.google.com/chart?cht=p3&amp;chl=Hello|World">', ""),
    "photograph": ('<img src="texture.jpg" alt="my texture_2 photo">', ""),
    "path": ('<img src="a.png" alt="C:\\dir\\a.png">', ""),
    "number of an equation": ('<img class="math" alt="equation 3" src="x.gif">', ""),
    "pandoc": ('<span class="math inline">\\(y\\)</span>', r"\(y\)"),
    "class of TeX": ('<span class="tex">x^2 + \\alpha</span>', r"$x^2 + \alpha$"),
    "class on a word": ('<span class="math">word</span>', "word"),
    "class on a sentence": (
        '<span class="math">Solve for all x the case x^2 = 4.</span>',
        "Solve for all x the case x^2 = 4.",
    ),
    "class on an article": (
        '<span class="MathJax-article"><span class="katex">a <math><mi>x</mi></math> and <math><mi>y</mi></math></span>'
        "</span>",
        "a $x$ and $y$",
    ),
    "attribute of an article": ('<span data-tex="x">' + "word " * 60 + "</span>", ("word " * 60).strip()),
    "mathquill": ('<span class="mathquill-embedded-latex">\\frac{x}{2}</span>', r"$\frac{x}{2}$"),
    "gitlab": ('<code class="code math js-render-math" data-math-style="inline">x^2</code>', "$x^2$"),
    "distill": ("<d-math>x</d-math>", "$x$"),
    "tag of a forum": ("[itex]y[/itex] [math]z[/math]", "$y$ $z$"),
    "delimiters": (r"\(x\) \[y\] $z$ $$w$$", r"\(x\) \[y\] $z$ $$w$$"),
    "power": ("x<sup>2</sup> + e<sup>x+1</sup>", "x^{2} + e^{x+1}"),
    "index": ("H<sub>2</sub>O <i>a</i><sub>n+1</sub>", "H_{2}O a_{n+1}"),
    "ordinal": ("the 1<sup>st</sup> one, Brand<sup>TM</sup>", "the 1st one, BrandTM"),
    "note": ('note<sup><a href="#n">3</a></sup> done<sup class="reference">[4]</sup>', "note done"),
    "backticks without AsciiMath": ("a `x/2` b", "a `x/2` b"),
    "sides of stackexchange": ('<span class="d-none">$\\begingroup$</span>x', "x"),
}


def text_of(inner: str, head: str = "") -> str:
    page = f"<html><head><title>T</title>{head}</head><body><p>So it is {inner} here.</p></body></html>"
    text = extract(page).text
    assert text.startswith("So it is")
    assert text.endswith("here.")
    return text.removeprefix("So it is").removesuffix("here.").strip()


@pytest.mark.parametrize("name", INLINE)
def test_inline(name: str) -> None:
    inner, expected = INLINE[name]
    assert text_of(inner) == expected


BLOCKS = {
    "katex": f'<span class="katex-display">{KATEX}</span>',
    "mathjax 2": '<div class="MathJax_Display"><span class="MathJax">x</span></div>'
    '<script type="math/tex; mode=display">x^2</script>',
    "mathjax 3": '<mjx-container display="true"><mjx-assistive-mml><math alttext="x^2"><mi>x</mi></math>'
    "</mjx-assistive-mml></mjx-container>",
    "MathML": '<math display="block" alttext="x^2"><mi>x</mi></math>',
    "image": '</p><p><img alt="x^2" class="latex" src="a.png"></p><p>',
    "image in the middle": '<img alt="x^2" class="latexcenter" src="a.png">',
    "alone in its paragraph": f"</p><dl><dd>{KATEX}</dd></dl><p>",
    "tag of a forum": "</p><p>[tex]x^2[/tex]</p><p>",
    "figure": '</p><figure><math display="block" alttext="x^2"><mi>x</mi></math></figure><p>',
}


@pytest.mark.parametrize("name", BLOCKS)
def test_display(name: str) -> None:
    assert text_of(BLOCKS[name]) == "$$x^2$$"


@pytest.mark.parametrize(
    "script",
    [
        '<script src="x/MathJax.js?config=AM_HTMLorMML"></script>',
        '<script src="x/MathJax.js?config=TeX-MML-AM_CHTML"></script>',
        '<script src="js/ASCIIMathML.js"></script>',
        '<script src="tex-chtml.js" id="mathjax"></script><script src="/mathjax.js"></script>'
        "<script>MathJax = {loader: {load: ['input/asciimath']}}</script>",
    ],
)
def test_asciimath_where_the_page_loads_it(script: str) -> None:
    source = "`x/2` and <code>`no`</code> and \\`quoted\\`"
    assert text_of(source, script) == r"$\frac{x}{2}$ and `no` and `quoted`"


def test_asciimath_between_dollars_where_they_are_set() -> None:
    head = '<script src="x/mathjax.js?config=AM_CHTML"></script>'
    config = '<script>MathJax.Hub.Config({asciimath2jax: {delimiters: [["\\\\$", "\\\\$"]]}})</script>'
    assert text_of("\\$x/2\\$", head + config) == r"$\frac{x}{2}$"
    assert text_of("\\$5 and \\$6", head) == r"\$5 and \$6"


def test_tables_keep_their_formulas_in_order() -> None:
    rows = "".join(f"<tr><td>{n}</td><td><math><mi>n</mi><mo>=</mo><mn>{n}</mn></math></td></tr>" for n in (1, 2))
    assert " ".join(text_of(f"</p><table>{rows}</table><p>").split()) == "1 $n = 1$ 2 $n = 2$"


@pytest.mark.parametrize("tag", ["ul", "ol", "aside", "figure", "label", "blockquote", "details", "dl", "section"])
def test_formulas_survive_the_search_for_the_main_content(tag: str) -> None:
    item = "li" if tag in ("ul", "ol") else "dd" if tag == "dl" else "p"
    inner = f"</p><{tag}><{item}>we have $x^2$ here</{item}><{item}>and \\(y\\) there</{item}></{tag}><p>"
    head = '<script src="https://cdn/mathjax/tex-chtml.js"></script>'
    text = text_of(inner, head)
    assert "$x^2$" in text
    assert r"\(y\)" in text


def test_menus_with_formulas_stay_menus() -> None:
    links = "".join(f'<li><a href="/{n}">Why is $x^{n}$ so?</a></li>' for n in range(9))
    head = '<script src="https://cdn/mathjax/tex-chtml.js"></script>'
    assert "Why" not in text_of(f"</p><aside><ul>{links}</ul></aside><nav>$y$</nav><p>", head)
