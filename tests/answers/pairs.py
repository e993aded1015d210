"""Pairs of answers by category, each with what mathematics says about them. All are our own examples."""

from __future__ import annotations

EQUAL: dict[str, list[tuple[str, str]]] = {
    "integers": [("-5", "-5"), ("7425000", "7,425,000"), ("12", "+12"), ("007", "7"), ("5", "5."), ("5", "5.0"), ("0", "-0"), ("3", "６/２"), ("42", "４２")],
    "decimals": [("0.5", ".5"), ("0.50", "0.5"), ("1000.99", "1,000.99"), ("2.5", "5/2"), ("0.125", r"\frac18"), ("-0.75", r"-\frac{3}{4}")],
    "fractions": [
        (r"\frac{1}{2}", "1/2"), (r"\dfrac{3}{4}", r"\tfrac34"), (r"\frac{10}{4}", r"\frac{5}{2}"), (r"-\frac{1}{3}", r"\frac{-1}{3}"),
        (r"-\frac{1}{3}", r"\frac{1}{-3}"), (r"\frac12", "½"), (r"\frac{3}{7}", "3 / 7"), ("frac{5}{6}", r"\frac{5}{6}"), (r"\frac{1}{2}", "{1}/{2}"),
        (r"\frac{a}{b}", "a/b"), (r"{1 \over 2}", r"\frac12"), (r"\frac{\frac{1}{2}}{3}", "1/6"), (r"\cfrac{2}{3}", r"2 \div 3"), ("7/3", "7÷3"),
    ],
    "mixed numbers": [
        (r"1\frac{1}{2}", "3/2"), ("1 1/2", r"\frac32"), (r"-2\frac{3}{4}", "-2.75"), ("3½", "3.5"), (r"2 \frac{1}{3}", r"\frac{7}{3}"), ("11/4", "2 3/4"),
        (r"5\frac{1}{4} \text{ feet}", "5.25"),
    ],
    "thousands": [
        ("12345", "12,345"), ("12345", r"12{,}345"), ("12345", r"12\,345"), ("1234567", r"1,\!234,\!567"), ("12345", "12 345"), ("12345", "12\u202f345"),
        ("1000000", "1 000 000"), (r"\frac{1{,}000}{3}", r"\frac{1000}{3}"), ("10000", r"10,\!000"),
    ],
    "scientific notation": [
        ("1500", r"1.5 \times 10^{3}"), ("1.5e3", r"1.5\cdot 10^3"), ("0.00042", r"4.2 \times 10^{-4}"), ("6.02e23", "6.02×10²³"), ("3e8", "3*10^8"), ("3e8", "300000000"),
        (r"2.5\times10^{-7}", "2.5E-7"),
    ],
    "repeating decimals": [(r"0.\overline{3}", "1/3"), (r"0.1\overline{6}", r"\frac16"), ("0.(3)", "1/3"), (r"0.\dot{3}", "1/3"), (r"2.\overline{142857}", "15/7"), ("0.333...", "1/3")],
    "rounded decimals": [("1/12", "0.0833333333333333"), (r"\sqrt{2}", "1.41421356"), (r"\frac{2}{3}", "0.6666666667"), ("0.3", "0.30000000000000004"), (r"\pi", "3.14159265"), ("1/3", "0.33333333")],
    "radicals": [
        (r"\sqrt{3}", r"\sqrt3"), (r"\sqrt{12}", r"2\sqrt{3}"), ("sqrt(12)", r"2\sqrt3"), ("√12", "2√3"), (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
        (r"\sqrt[3]{16}", r"2\sqrt[3]{2}"), (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"), (r"\sqrt[3]{-8}", "-2"), ("2^{1/2}", r"\sqrt2"), ("8**(1/3)", "2"),
        (r"\frac{3+\sqrt5}{2}", "(3+sqrt(5))/2"), (r"\sqrt{\frac{1}{2}}", r"\frac{\sqrt2}{2}"), ("4^{3/2}", "8"), (r"3\sqrt[4]{2}", r"\sqrt[4]{162}"), ("cbrt(27)", "3"),
        (r"\sqrt{8}-\sqrt{2}", r"\sqrt2"), (r"5\sqrt{2}", r"5 \cdot \sqrt {2}"), (r"\frac{-3+\sqrt{17}}{4}", r"\frac{\sqrt{17}-3}{4}"), (r"\sqrt{10}", "10^0.5"),
    ],
    "constants": [
        (r"2\pi", "2*pi"), (r"\frac{\pi}{2}", "pi/2"), ("2π", r"2\pi"), (r"e^2", r"\exp(2)"), (r"\mathrm{e}^{2}", "e^2"), (r"\pi r^2", "π r²"), (r"\frac{9}{4}\pi", r"\frac{9\pi}{4}"),
        (r"\ln(e^3)", "3"), ("exp(1)", "e"),
    ],
    "complex numbers": [
        ("3+4i", "4i+3"), ("i^2", "-1"), (r"\frac{1}{i}", "-i"), (r"e^{i\pi}", "-1"), ("1+2I", "1+2i"), (r"\frac{1+i}{\sqrt2}", r"e^{i\pi/4}"), (r"\sqrt{-4}", "2i"), ("(1+i)^2", "2i"),
        (r"-\frac12+\frac{\sqrt3}{2}i", r"\frac{-1+i\sqrt{3}}{2}"), (r"\cos\frac{\pi}{3}+i\sin\frac{\pi}{3}", r"\frac{1}{2}+\frac{\sqrt3}{2}i"),
    ],
    "functions": [
        (r"\log_2 8", "3"), (r"\ln 2", "ln(2)"), (r"\sin 30^\circ", "1/2"), (r"\tan^2 x+1", r"\sec^2 x"), (r"\sin 2x", r"2\sin x\cos x"), (r"\cos(\pi/3)", "0.5"), (r"\log_{10} 100", "2"),
        (r"\lg 1000", "3"), (r"\frac{\ln 3}{\ln 2}", r"\log_2 3"), (r"\ln 8", r"3\ln 2"), (r"\log 4", "2 log 2"), (r"\arctan 1", r"\frac{\pi}{4}"), (r"\sin^{-1}(1)", r"\pi/2"),
        (r"\cosh x", r"\frac{e^x+e^{-x}}{2}"), (r"\sinh(0)", "0"), (r"|{-3}|", "3"), (r"\lfloor 3.7 \rfloor", "3"), (r"\lceil \pi \rceil", "4"), ("log(8, 2)", "3"), ("2sinx", r"2\sin x"),
        (r"\operatorname{lcm}(4,6)", "12"), (r"\gcd(12, 18)", "6"), (r"\max(3, 7)", "7"), ("5 \\bmod 3", "2"), (r"\cot x", r"\frac{\cos x}{\sin x}"), (r"\sqrt{x^2}", "|x|"), (r"\operatorname{arcsin} 1", r"\frac{\pi}2"),
    ],
    "combinatorics": [
        ("5!", "120"), (r"\binom{10}{3}", "120"), (r"{10 \choose 3}", "120"), ("C_{10}^{3}", "120"), (r"\frac{10!}{7!}", "720"), ("binomial(10, 3)", r"\binom{10}{7}"),
        (r"\frac{1}{2004!}", r"\frac{2005}{2005!}"), (r"2^{10}-1", "1023"), ("factorial(5)", "5!"), (r"\dbinom{n}{2}", r"\frac{n(n-1)}{2}"),
    ],
    "sums and products": [(r"\sum_{k=1}^{10} k", "55"), (r"\prod_{i=1}^{5} i", "120"), (r"\sum_{n=0}^{3} 2^n", "15"), (r"\sum_{k=1}^{n} a_k b_k", r"\sum_{k=1}^{n} b_k a_k"), (r"\sum_{k=0}^{100} k^2", "338350")],
    "polynomials": [
        ("(x+1)^2", "x^2+2x+1"), ("x(x-1)", "x^2-x"), ("(a-b)(a+b)", "a^2-b^2"), ("2(l+w)", "2l+2w"), (r"\frac{x^2-1}{x-1}", "x+1"), ("-x+3", "3-x"), (r"\frac{x+2}{7}", r"\frac{x}{7}+\frac{2}{7}"),
        ("x**2+1", "x^2 + 1"), ("6xyz", "6zxy"), (r"x^{-1}", r"\frac1x"), (r"\frac{\pi r}{h+r}", r"\pi r/(r+h)"), ("h(b+c)", "hb+hc"), ("(2x-1)(x+4)", "(x+4)(2x-1)"), ("x^{10}", "x^10"),
        ("2x^2y", "2yx^2"), (r"a_1+a_2", "a_2+a_1"), (r"\frac{1}{3\sqrt[3]{x}^2}", r"\frac{1}{3x^{2/3}}"), ("a1", "a_1"), (r"x\cdot x", "x²"),
    ],
    "exponents": [("2^{n+1}", r"2\cdot 2^n"), ("x^{a}x^{b}", "x^{a+b}"), ("4^n", "2^{2n}"), (r"(-1)^n", r"\cos(n\pi)"), ("e^{2x}", "(e^x)^2"), (r"2^{2005}", r"2\cdot 2^{2004}"), ("3^{2x}", "9^x")],
    "assignments": [
        ("x=5", "5"), ("5", "x = 5"), ("5 = x", "x=5"), ("f(x)=2x+1", "2x+1"), ("y=2x+1", "2x+1"), (r"|AB|=3", "3"), ("a_{10}=19", "19"), ("P(A)=0.3", "3/10"), (r"\angle ABC=60^\circ", "60"), ("x=1/3\\approx 0.33", "1/3"),
        (r"x \approx 11", "11"), ("(x,y)=(1,2)", "(1,2)"), (r"\frac{AB}{CD}=2", "2"), ("S=10", "10"), ("k = 3 + 4 = 7", "7"), (r"\sin A=\frac12", "1/2"), ("Area = 12", "12"), ("x=5", "x = 5."), ("n = 2^3", "8"),
    ],
    "equations": [
        ("y=2x+1", "2x-y+1=0"), ("x+y=3", "2x+2y=6"), ("34x+45y-20z+100=0", "-34x-45y+20z-100=0"), ("x^2+y^2=1", "1-x^2-y^2=0"), (r"\frac{x^2}{4}+\frac{y^2}{3}=1", "3x^2+4y^2=12"), ("xy=1", "y=1/x"),
        ("y = x^2", "x^2 = y"), ("Eq(x, 3)", "x = 3"), ("y-1=2(x-3)", "y=2x-5"), ("ax+by=c", "c=by+ax"), (r"y=\pm 2x", r"y=-2x, y=2x"),
    ],
    "inequalities": [
        ("x>5", "5<x"), (r"x \ge 3", "[3, \\infty)"), ("-1<x<2", "(-1,2)"), (r"x\leq 1", r"-x \geq -1"), ("2x<6", "x<3"), ("x<1 or x>3", r"(-\infty,1)\cup(3,\infty)"), (r"1\le x \le 2", r"x\in[1,2]"),
        ("x>1 and x<3", "(1,3)"), (r"|x|<2", "(-2,2)"), (r"x\neq 0", r"(-\infty,0)\cup(0,\infty)"), (r"\{x|x>1\}", r"(1,+\infty)"), ("x>=2", "x ≥ 2"), ("x^2<4", "-2<x<2"), (r"a \geqslant 2", "[2,+∞)"),
        (r"\{x \mid -1 < x < 2\}", "(-1,2)"), (r"x < -1 \text{ or } x > 1", r"|x|>1"), (r"(-\infty, 2) \cup (2, \infty)", r"\mathbb{R} \setminus \{2\}"),
    ],
    "intervals": [
        ("[0,1)", "[0, 1)"), (r"\left[0,1\right)", "[0,1)"), (r"(-\infty, 3]", "(-oo, 3]"), ("(0,1)\\cup(2,3)", r"(2,3) \cup (0,1)"), ("[0,2]", r"[0,1]\cup[1,2]"), (r"[\frac12, 2)", "[0.5,2)"), ("]0,1[", "(0,1)"), ("[1, 2) U (3, 4]", r"[1,2)\cup(3,4]"),
        ("Interval(0, 1)", "[0,1]"), ("Interval.open(0, oo)", r"(0,\infty)"), ("Interval.Ropen(0, 1)", "[0,1)"), ("Union(Interval(0, 1), Interval(2, 3))", r"[0,1] \cup [2,3]"), (r"\mathbb{R}", r"(-\infty,\infty)"), (r"x \in \mathbb{R}", r"\mathbb R"),
        ("Interval(-oo, 3, True, False)", r"(-\infty,3]"), (r"(-\infty,+\infty)", r"(-\infty,\infty)"),
    ],
    "sets": [
        (r"\{1,2,3\}", r"\{3,1,2\}"), (r"\{1,2\}", "1, 2"), (r"\{1,2,2\}", r"\{1,2\}"), ("{1, 2}", r"\{2,1\}"), (r"\emptyset", r"\varnothing"), (r"\emptyset", r"\{\}"), ("FiniteSet(1, 2)", r"\{1,2\}"), (r"\left\{-1,\frac12\right\}", r"\{0.5, -1\}"),
        (r"\{(1,2),(3,4)\}", r"(3,4),(1,2)"), (r"\{1\}\cup[2,3)", r"[2,3)\cup\{1\}"), ("EmptySet", r"\emptyset"),
    ],
    "lists": [
        ("1,2,3", "3, 2, 1"), ("1 and 2", "1,2"), ("-2,1", "1,-2"), (r"x=1 \text{ or } x=2", "1,2"), ("1;2;3", "1,2,3"), (r"1 \pm \sqrt{2}", r"1+\sqrt2, 1-\sqrt2"), (r"\pm 3", "3,-3"), (r"x=\pm 3", r"\{-3,3\}"), ("a=1, b=2", "b=2, a=1"), ("x=1,y=2", "(1,2)"),
        (r"x_1=1,\ x_2=-3", "-3, 1"), ("1, 2 and 3", "1,2,3"), ("100,200,300", "100, 200, 300"), (r"\frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2},\frac{1-\sqrt5}{2}"), ("(1,2),(3,4)", "(3,4), (1,2)"), ("2或3", "3, 2"), ("1、2", "1,2"), (r"-2\pm i", "-2+i, -2-i"),
    ],
    "tuples": [("(1,2)", "(1, 2)"), (r"\left(\frac12,3\right)", "(0.5,3)"), ("(1;2)", "(1,2)"), (r"\langle 1,2\rangle", "(1,2)"), ("(x,y)=(3,-1)", "(3,-1)"), (r"\left(3,\frac{\pi}{2}\right)", "(3, pi/2)"), ("(1,2,3)", r"\begin{pmatrix}1\\2\\3\end{pmatrix}")],
    "matrices": [
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"), ("Matrix([[1, 2], [3, 4]])", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"), (r"\begin{pmatrix}1\\2\end{pmatrix}", "Matrix([1, 2])"), ("[[1,2],[3,4]]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\left[\begin{array}{cc}1&0\\0&1\end{array}\right]", r"\begin{pmatrix}1&0\\0&1\end{pmatrix}"), (r"\begin{pmatrix}1/2\\x+y\end{pmatrix}", r"\begin{pmatrix}0.5\\y+x\end{pmatrix}"), (r"2\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\4\end{pmatrix}"),
        (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2"), (r"\begin{pmatrix}1 \\[2pt] 2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ],
    "units": [
        (r"5\text{ cm}", "5"), (r"15\mbox{ cm}^2", "15"), ("10 meters", "10"), ("5 cm", r"5\,\mathrm{cm}"), ("150 cm", "1.5 m"), ("12 square inches", "12"), (r"25\text{ km/h}", "25"), ("1000.99", "1,000.99m²"), ("18 apples", "18"), ("2 hours", "120 minutes"),
        (r"30\text{ miles per hour}", "30 mph"), ("3.5 kg", "3500 g"), ("7 units", "7"), ("9 cm^3", "9 cubic centimeters"), ("4 ft", "4 feet"), (r"1.3\text{ cm}", "13 mm"), ("5元", "5"), ("3 个", "3"), ("20 厘米", "20 cm"), (r"6\ \text{m/s}", "6 m/s"), (r"36 \text{ square units}", "36"),
        ("5 students", "5"), ("2.5 L", "2500 mL"), (r"8\pi\ \text{cm}", r"8\pi"),
    ],
    "money": [("$5", "5"), (r"\$5.00", "5"), ("5 dollars", r"\$5"), ("€20", "20"), (r"\$1{,}000", "1000"), ("50 cents", r"\$0.50"), ("1,000.99$", "1000.99"), (r"\$\frac{1}{2}", "0.5"), ("USD 20", "20"), ("-$5", "-5")],
    "percent": [("28%", r"28\%"), (r"28\%", "0.28"), ("28 percent", "28%"), (r"12.5\%", r"\frac{1}{8}"), ("50%", "50"), ("28 pct", r"28\%"), (r"33\frac13\%", r"\frac13")],
    "degrees": [(r"90^\circ", "90"), (r"90^{\circ}", "90°"), ("45 degrees", r"45^\circ"), (r"180^\circ", r"\pi"), (r"60\degree", "60"), (r"\frac{\pi}{3}", r"60^\circ"), ("30度", "30")],
    "clock times": [("3:30", "3:30"), ("3:30 pm", "3:30 p.m."), (r"3:30\text{ PM}", "3:30 p.m."), ("15:30", "3:30 pm"), ("7:00", "7:00 pm"), ("10 a.m.", "10:00 AM"), ("12:00 am", "0:00"), ("9:05", "09:05")],
    "ratios": [("3:4", "6:8"), ("7:32", "7/32"), (r"3 : 4", "3:4"), ("1:2:3", "2:4:6"), (r"\frac{3}{4}", "3:4"), ("A:B=2:3", "2:3")],
    "bases": [("204_5", "204_{5}"), (r"1011_2", r"1011_{\text{two}}"), (r"(204)_5", "204_5"), ("0.011_2", "0.0110_{2}"), ("204_5", "204")],
    "residues": [(r"x \equiv 3 \pmod 5", r"x\equiv 8\pmod{5}"), (r"9 \pmod{11}", "9"), (r"3\pmod{7}", "3 (mod 7)")],
    "infinity": [(r"\infty", "oo"), (r"-\infty", "-oo"), (r"+\infty", "∞")],
    "words": [
        (r"\text{Monday}", "monday"), ("yes", "Yes."), ("True", "yes"), (r"\text{Even}", "even"), ("No solution", "no solutions"), (r"\text{no real solutions}", "No solution"), (r"\text{The midpoints form a square}", "the midpoints form a square."),
        (r"\text{east}", "East"), ("Alice and Bob", r"\text{Alice and Bob}"), ("does not exist", "DNE"), ("undefined", "Undefined"), ("five", "5"), ("twenty-one", "21"), (r"\text{two}", "2"),
    ],
    "choices": [("B", "(B)"), (r"\text{(B)}", "B"), (r"\textbf{(C)}", "C"), ("C", "(C) 12"), ("(D) 7", "D"), ("A", "A."), ("(B)", "B) 5"), (r"\textbf{(A)}\ 12", "12"), ("A, C", "C, A"), (r"\text{A,C}", "A, C"), ("D", "Option D"), ("E", r"\text{E}")],
    "general solutions": [
        (r"x=\frac{\pi}{4}+k\pi, k\in\mathbb{Z}", r"x=\frac{\pi}{4}+n\pi, n \in \mathbb{Z}"), (r"\frac{\pi}{4}+k\pi", r"\frac{\pi}{4}+k\pi, k\in\mathbb{Z}"), ("x^2+C", "x^2 + c"), (r"\ln|x|+C", r"C+\ln |x|"), ("f(x)=2x", "f(t)=2t"), ("f(x)=x^2", "x^2"),
    ],
    "more forms": [
        ("(x > 1) & (x < 3)", "(1,3)"), ("(x < 1) | (x > 3)", r"(-\infty,1)\cup(3,\infty)"), ("And(x > 1, x < 3)", "1<x<3"), ("x is 5", "5"), ("3 to 4", "3:4"), ("AC", "A, C"), (r"5^{\text{th}}", "5"), ("0.75 or 3/4", "3/4"), ("3 dozen", "36"), ("1.2 million", "1,200,000"),
        (r"\begin{cases} x=1 \\ y=2 \end{cases}", "(1,2)"), (r"x_1=1, x_2=2", "x=1 or x=2"), (r"10\,\mathrm{~m}", "10"), (r"1.5\ \mathrm{kg}", "1500 g"), (r"\{x\in\mathbb{R}: x>0\}", r"(0,\infty)"), (r"x\in(-1,1)", "-1<x<1"), (r"(-\infty,-1)\cup(1,\infty)", "x<-1 or x>1"),
        (r"\left\{\begin{array}{l} x=1 \\ y=2 \end{array}\right.", "x=1, y=2"), ("S = {1, 2, 3}", "{3,2,1}"), (r"\sqrt{2} \approx 1.414", r"\sqrt2"), ("x=-1,\\ y=3", "x=-1, y=3"), (r"2\text{ and }3", "3,2"), (r"\frac{x}{2}-\frac{1}{4}", "x/2 - 1/4"), ("pi*r**2", r"\pi r^{2}"),
        (r"\frac{\sqrt{3}}{3}", r"\tan 30^\circ"), (r"\cos 2x", r"1-2\sin^2 x"), (r"\sin^2\theta+\cos^2\theta", "1"), ("e^{it}", "cos(t)+i*sin(t)"), (r"\log_3(x^2)", r"\frac{\ln(x^2)}{\ln 3}"), (r"x^{\frac{1}{2}}", r"\sqrt{x}"),
    ],
    "wrappers": [
        ("5", "$5$"), ("5", r"\(5\)"), ("5", r"\[5\]"), ("5", r"\boxed{5}"), ("5", r"$\boxed{5}$."), ("5", "The answer is 5."), ("5", "the final answer is $5$"), (r"\frac12", r"The answer is $\frac{1}{2}$."), ("5", "答案是5"), ("5", "**5**"), ("5", "x = 5 ."), ("5", "5 apples in total."),
        (r"x\ge5", r"Therefore $x \geq 5$ is the solution."), ("7", "So the result is 7"), ("12", "####12"), ("5", "答案：5。"), ("1,2", r"\boxed{1} and \boxed{2}"), ("[2, 5)", "The domain is $[2,5)$."),
    ],
    "spelling": [
        ("2x", r"2 \, x"), (r"\frac{1}{2}", r"\displaystyle\frac{1}{2}"), ("(1,2)", r"\left( 1, 2 \right)"), ("10", r"\mathrm{10}"), (r"a\cdot b", r"a \times b"), ("−5", "-5"), (r"5\,", "5"), (r"\sqrt{2}", r"\sqrt 2"), ("x^{2}", "x^2"), (r"\{ 1 \}", "{1}"), (r"\\frac{1}{5}", r"\frac15"),
        ("\x0crac{1}{2}", r"\frac12"), (r"\bigl(1,2\bigr)", "(1,2)"), (r"3\!", "3"), (r"1~000", "1000"), (r"\mathbf{7}", "7"), (r"\text{5}", "5"), (r"\frac{\text{3}}{4}", "3/4"), (r"\tfrac{1}{2}\pi", r"\dfrac{\pi}{2}"), ("ｘ＝５", "x=5"), ("（１，２）", "(1,2)"),
    ],
    "vectors": [(r"\vec{a}+\vec{b}", r"\vec{b}+\vec{a}"), (r"\begin{pmatrix}-7\\16\\5\end{pmatrix}", "(-7,16,5)"), (r"3\mathbf{i}+4\mathbf{j}", r"4\mathbf{j}+3\mathbf{i}")],
    "sympy": [
        ("sqrt(2)/2", r"\frac{\sqrt2}{2}"), ("Rational(1, 2)", "1/2"), ("pi/4", r"\frac{\pi}{4}"), ("exp(x)", "e^x"), ("log(x)", r"\ln x"), ("2*E", "2e"), ("I*sqrt(3)", r"\sqrt3 i"), ("Abs(x)", "|x|"), ("x**2 - 4", "(x-2)(x+2)"), ("Tuple(1, 2)", "(1,2)"), ("S.Reals", r"\mathbb{R}"),
        ("Matrix([[1], [2]])", r"\begin{bmatrix}1\\2\end{bmatrix}"), ("{sqrt(2), -sqrt(2)}", r"\pm\sqrt{2}"), ("-1 + sqrt(6)", r"\sqrt{6}-1"), ("oo", r"\infty"), ("root(2, 3)", r"\sqrt[3]{2}"), ("x*(y + 1)", "xy+x"), ("sympy.sqrt(3)", r"\sqrt{3}"), ("5*sqrt(13)", r"5\sqrt{13}"), ("[1, 2]", "[1,2]"),
    ],
}  # fmt: skip

UNEQUAL: dict[str, list[tuple[str, str]]] = {
    "numbers": [
        ("5", "-5"), ("5", "6"), ("0.5", "0.05"), ("100", "1000"), ("99999999999", "100000000000"), ("1/5120", "1/28800"), ("32349", "32, 349"), ("2", "AZYUK2A"), ("3", "300"), ("0.5", "50"), ("1/3", "0.33"), ("3.14", r"\pi"), ("1.41", r"\sqrt2"),
        ("0.1", "0.10001"), ("1000000", "1000001"), ("12", "1,2"), (r"\frac12", r"\frac21"), (r"1\frac12", "1/2"), (r"\frac{22}{7}", r"\pi"), ("1e-9", "0"), ("1e-20", "2e-20"),
    ],
    "tiny and huge": [
        (r"2^{-99}", r"2^{-98}"), (r"\frac{1}{2004!}", r"\frac{1}{2006!}"), (r"10^{100}", r"10^{100}+1"), (r"\frac{1}{3^{100}}", r"\frac{1}{3^{101}}"), ("2^{1000}", "2^{1001}"), (r"e^{-100}", r"e^{-101}"), (r"10^{-50}", "0"), ("2004!", "2006!"), (r"(\sqrt2-1)^{60}", "0"),
        (r"10^{10^{10}}", r"10^{10^{11}}"),
    ],
    "radicals": [("4", r"4\sqrt{2}"), (r"\sqrt2", r"\sqrt3"), (r"\sqrt[3]{2}", r"\sqrt2"), ("2", r"\frac{1+\sqrt5}{2}"), (r"1\sqrt{19}", "1"), (r"2\sqrt3", r"3\sqrt2"), (r"\sqrt{x^2}", "x"), (r"\sqrt{2}+\sqrt{3}", r"\sqrt5"), (r"\sqrt{2}", "-\\sqrt{2}")],
    "expressions": [
        ("x+2n+1", "x+1"), ("(a+5)(b+2)", "(+5)(b+2)"), ("x^2", "x^3"), ("x+y", "x-y"), ("2x", "2y"), ("x", "5"), ("a-b", "b-a"), (r"\sin x", r"\cos x"), ("f(x)", "f(y)"), ("x_1", "x_2"), (r"\frac{a}{b}", r"\frac{b}{a}"), (r"2^n", "n^2"), ("e^x", "e^{-x}"), (r"\ln x", r"\log_2 x"), ("(x+1)^2", "x^2+1"),
        (r"1-\frac{1}{e}", r"1+\frac1e"), ("x", "-x"), (r"\sum_{k=1}^{n} k", r"\sum_{k=1}^{n-1} k"), ("2x", "2x+1e-9"), (r"\sin x", "x"),
    ],
    "intervals": [("[0,1)", "(0,1)"), ("[0,1)", "[0,1]"), ("[0,9)", "[0,1)"), (r"(-\infty,1)", r"(-\infty,1]"), ("[1,2]", "[1,3]"), (r"(0,1)\cup(2,3)", "(0,3)"), ("(1,2)", "(2,1)"), ("1", "-[0,1)"), ("[1,2]", r"\{1,2\}"), (r"(-\infty,0)\cup(0,\infty)", r"(-\infty,\infty)"), (r"\mathbb{R}", r"\mathbb{Z}"), ("(0,1)", "0,1,2"), ("[0,1]", "1")],
    "inequalities": [("x>5", "x<5"), (r"x\ge 5", "x>5"), (r"x\geq5", r"x\leq5"), ("x<1", "x>-1"), ("-1<x<2", "-1<x<3"), ("x>1", "x>2"), (r"x \ne 1", "x=1"), (r"-1<x<2", r"-1\le x<2"), ("x>5", "5"), ("x<1 or x>3", "1<x<3")],
    "equations": [("a+3z=0", "0"), ("2x+z=1", "1"), ("7=11a+c", "11a+c"), ("a^2+b=0", "0"), ("y=2x+1", "y=2x-1"), ("x+y=3", "x+y=4"), ("x=5", "6"), ("x^2+y^2=1", "x^2+y^2=2"), ("x+y=1", "1"), ("y=2x", "x=2y"), ("x=1", "y=2"), ("xy=1", "1"), ("x^2=4", "4")],
    "sets and lists": [(r"\{1,2\}", r"\{1,3\}"), ("1,2", "1,2,3"), ("1,2,3", "1,2"), (r"\pm 3", "3"), (r"\{1,2\}", "3"), ("1,1,2", "1,2,2"), ("1,2", "12"), ("n=2,3,4", "n=1,2,3"), (r"\emptyset", r"\{0\}"), (r"\emptyset", "0"), (r"1,3,5,\ldots", "1,3,7,\\ldots"), (r"1,2,\ldots", r"1,2"), (r"1\pm\sqrt2", r"1+\sqrt2"), (r"\{1,2\}", "(1,2)")],
    "tuples": [("(1,2)", "(2,1)"), ("(1,2)", "(1,2,3)"), ("(3,1)", "{1,3}"), ("(1,2)", "(1,-2)"), ("(1,2),(3,4)", "(1,3),(2,4)"), (r"\left(3,\frac{\pi}{2}\right)", r"\left(3,\frac{\pi}{3}\right)"), ("x=1,y=2", "x=2,y=1"), ("(1,2)", "3"), ("(37,3,3),(3,3,2,3)", "(37,3,3,13),(3,3,2,3)")],
    "matrices": [
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"), (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"), (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"), (r"\begin{pmatrix}1\\2\end{pmatrix}", "1"),
        (r"\begin{pmatrix}1\\2\\3\end{pmatrix}", "(1,2)"),
    ],
    "units": [("5 cm", "5 kg"), ("5 cm", "6 cm"), ("1 m", "1 km"), ("10 minutes", "10 hours"), (r"15\text{ cm}^2", "16"), ("150 cm", "15 m"), ("2x", "2"), ("2m", "2")],
    "percent": [("28%", "28.5%"), ("28%", "2.8"), ("0.28", "28"), ("5%", "0.5"), ("50%", "5")],
    "degrees": [(r"90^\circ", r"45^\circ"), (r"90^\circ", r"\pi"), (r"\sin 30", r"\sin 30^\circ"), (r"1^\circ", r"\pi")],
    "clock times": [("12:00", "1:00"), ("3:30 am", "3:30 pm"), ("3:30", "4:30"), ("3:30 pm", "3:31 pm"), ("15:30", "3:30 am"), ("3:30", "3.5")],
    "ratios": [("3:4", "4:3"), ("1:2:3", "1:2"), ("7:32", "7")],
    "bases": [("1112112_3", "1112122_3"), ("204_5", "204_6"), ("101_2", "101_3"), ("204_5", "205")],
    "residues": [(r"x\equiv 3 \pmod 5", r"x \equiv 4\pmod 5"), (r"x\equiv 3 \pmod 5", r"x \equiv 3\pmod 7"), (r"9\pmod{11}", "8")],
    "words": [("Monday", "Tuesday"), ("yes", "no"), ("even", "odd"), ("Alice", "Bob"), ("no solution", "0"), ("east", "seat"), (r"\text{increasing}", r"\text{decreasing}"), ("True", "False"), ("5", "no solution"), ("five", "6")],
    "choices": [("A", "B"), ("(A)", "(B)"), ("d", r"\text{E}"), ("B", "(C) 12"), ("A, C", "A, B"), ("C", "12"), ("A", "A, B")],
    "look-alikes": [
        ("1 1/2", "11/2"), ("1 2", "12"), ("a=1, b=2", "2, 1"), ("A:B=2:3", "A:B=3:2"), ("(a)(b)", "(a)(c)"), ("x^{2}3", "x^{23}"), ("a_1=5", "a_2=5"), ("f(x)=2x", "f(t)=3t"), (r"\{1,2,\ldots,100\}", r"\{1,2,\ldots,99\}"), ("f(2) < f(1) < f(4)", "f(3) < f(1) < f(4)"), ("AB", "AC"),
        (r"x=\frac{\pi}{4}+k\pi", r"x=\frac{\pi}{4}+2k\pi"), (r"45\text{ units}^2", r"45\text{ units}^3"), ("(-5,-7)", "[-5,-7)"), ("x^2+C", "x^2"), ("0.5", ".05"), ("1/2", "-1/2"), ("1e3", "1e4"), ("3!", "3"), ("5!", "5"), ("f(x)=0", "f(x)=x"), ("n!", "n"),
    ],
    "complex": [("3+4i", "3-4i"), ("i", "-i"), ("1+i", "1"), ("i", "1")],
    "infinity": [(r"\infty", r"-\infty"), (r"\infty", "0"), (r"\infty", "10^{100}"), ("5", r"\infty")],
}  # fmt: skip
