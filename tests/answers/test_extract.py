"""Finding answers: every place where one may stand, and what must not be taken for one."""

from __future__ import annotations

import random
import time

import pytest

from dsm.answers.boxes import boxes
from dsm.answers.extract import EXTRACTORS, bare, extract
from dsm.errors import UserError


def found(text: str, extractor: str = "final") -> tuple[str | None, str]:
    extraction = extract(text, extractor)
    return extraction.answer, extraction.rule


# ---------------------------------------------------------------- boxes


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{72} eggs", "72"),
        (r"\boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{x^{2^{n}}}", "x^{2^{n}}"),
        (r"\fbox{7}", "7"),
        (r"\boxed 5.", "5"),
        (r"\boxed\frac12 of it", r"\frac12"),
        (r"first \boxed{1}. Then \boxed{2}", "2"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"\boxed{\boxed{3}}", r"\boxed{3}"),
        (r"\\boxed{\\frac{1}{2}}", r"\\frac{1}{2}"),
        ("boxed{4}", "4"),
        (r"{ \boxed{6}", "6"),
        (r"\boxed{8} and then \boxed{9", "8"),
        ("\\boxed{\n12\n}", "12"),
    ],
)
def test_the_last_complete_box(text: str, answer: str) -> None:
    assert found(text, "boxed")[0] == answer


@pytest.mark.parametrize(
    "text", ["", "12", r"\boxed{", r"\boxed{1", r"\boxed{}", r"\boxed{ }", "unboxed{3}", "boxed", r"\boxedx{1}"]
)
def test_no_box(text: str) -> None:
    assert found(text, "boxed") == (None, "none")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{2} and \boxed{3}", "2, 3"),
        (r"$$\boxed{1}, \boxed{2}, \boxed{3}$$", "1, 2, 3"),
        (r"$$\boxed{k = 45} \quad \text{and} \quad \boxed{n = 2}$$", "k = 45, n = 2"),
        (r"$x = \boxed{4}$ or $x = \boxed{5}$", "4, 5"),
        (r"\boxed{3} cats and \boxed{4} dogs", "3, 4"),
        (r"\boxed{1}\boxed{2}", "1, 2"),
        (r"\boxed{1}、\boxed{2}和\boxed{3}", "1, 2, 3"),
        (r"\boxed{5} and \boxed{5}", "5"),
        # a new claim is no list
        (r"\boxed{10}. So it is \boxed{42}", "42"),
        (r"\boxed{1} and so the answer is \boxed{2}", "2"),
        (r"\boxed{1} no no no \boxed{2}", "2"),
        (r"\boxed{1} is wrong, \boxed{2}", "2"),
        ("\\boxed{1}\n\n\\boxed{2}", "2"),
        (r"\boxed{9}, but \boxed{1} and \boxed{2}", "1, 2"),
    ],
)
def test_boxes_that_a_mere_conjunction_joins_are_one_answer(text: str, answer: str) -> None:
    assert found(text, "boxed")[0] == answer


def test_flags_say_what_is_odd_about_boxes() -> None:
    assert extract(r"\boxed{1}", "boxed").flags == ()
    assert extract(r"\boxed{1}, again \boxed{ 1 }.", "boxed").flags == ()
    assert extract(r"\boxed{1}. No: \boxed{2}", "boxed").flags == ("several boxes",)
    assert extract(r"\boxed{1} and \boxed{2}", "boxed").flags == ()
    assert extract(r"\boxed{1}. Now the next problem.", "boxed").flags == ("text after",)
    assert extract(r"\boxed{1}$.", "boxed").flags == ()
    assert extract(r"\boxed{1} \boxed{2", "boxed").flags == ("open box",)
    assert extract(r"\boxed{12", "final").flags == ("open box",)


# ---------------------------------------------------------------- the cascade


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        ("18 is the answer is 5 \\boxed{7}", "7", "boxed"),
        ("He has 3.\n#### 1,072", "1,072", "####"),
        ("#### 5\nThe answer is 6.", "5", "####"),
        ("#### Step 2: add 5\nso 9", "9", "last number"),
        ("The answer is 5 apples.", "5 apples", "the answer is"),
        ("the final answer is: **12**.", "12", "the answer is"),
        ("**Final Answer**\n\n$$x = 5$$", "x = 5", "the answer is"),
        ("Answer: $1,000.99", "$1,000.99", "the answer is"),
        ("The answer to 3 + 4 is 7.", "7", "the answer is"),
        (r"The answer is $\frac{1}{2}$. It was easy for 3 of us.", r"\frac{1}{2}", "the answer is"),
        (r"Therefore the answer is \(x + 1. \)", "x + 1.", "the answer is"),
        ("The answer is $3$ or $5$.", "$3$ or $5$", "the answer is"),
        ("So the answer is (B).", "(B)", "the answer is"),
        ("So the answer is no.", "no", "the answer is"),
        ("The answer is 4. Wait, the answer is 5.", "5", "the answer is"),
        ("The answer is 3.5.", "3.5", "the answer is"),
        ("所以答案是：45。", "45", "答案是"),
        ("答案为$\\frac{3}{4}$。", r"\frac{3}{4}", "答案是"),
        ("答案是 $2$;$93$", "$2$;$93$", "答案是"),
        ("故选：C。", "C", "答案是"),
        ("共3+4=7颗。\n答：一共有７颗糖。", "7", "答案是"),
        ("```output\n3\n5\n```\n5 cars came in 15 minutes.", "5", "program output"),
        (r"Thus the area is $A = 2\sqrt{3}$.", r"2\sqrt{3}", "last formula"),
        ("因此，弗兰克一共有**858颗**糖果。", "858", "last number"),
        ("It costs $5 and then $10.", "10", "last number"),
        ("The answer is", None, "none"),
        ("No idea.", None, "none"),
    ],
)  # fmt: skip
def test_the_most_explicit_statement_wins(text: str, answer: str | None, rule: str) -> None:
    assert found(text) == (answer, rule)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"The answer is 8\% of the total, leaving 20.", r"8\%"),
        ("The answer is 5, which is 3 more than 2.", "5"),
        ("The answer is 5 cars that drove in the first 15 minutes.", "5 cars"),
        ("The answer is that Ann earns 10 dollars a day.", "10"),
        ("The answer is 5 hours and 20 minutes.", "5 hours and 20 minutes"),
        ("The answer is 60 miles per hour.", "60 miles per hour"),
        ("The answer is 3 or 5.", "3 or 5"),
        ("答案是45，因为36+9=45。", "45"),
    ],
)
def test_the_rest_of_the_sentence_is_no_answer(text: str, answer: str) -> None:
    assert found(text)[0] == answer


def test_minerva_takes_the_first_statement_and_final_the_last() -> None:
    text = "The final answer is ${}$. I hope it is correct.\n\n"
    both = text.format(r"\frac{1}{2}") + "Problem: ...\n" + text.format("7")
    assert found(both, "minerva") == (r"\frac{1}{2}", "final answer is")
    assert found(both)[0] == "7"
    assert found(r"\boxed{3}. Final Answer: The final answer is $4$. I hope it is correct.") == ("4", "final answer is")
    assert found(r"so \boxed{3}", "minerva") == ("3", "boxed")


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("about 70,000.", "70,000"),
        ("$1,000.99", "1,000.99"),
        ("it was -$5", "-5"),
        ("-3", "-3"),
        ("is (-7)", "-7"),
        ("x = - 4", "-4"),
        ("10-5", "5"),
        ("3 - 2", "2"),
        ("1/2", "1/2"),
        ("1 1/2 cups", "1 1/2"),
        (r"-\frac{3}{4}", r"-\frac{3}{4}"),
        (r"\dfrac12 of it", r"\dfrac12"),
        ("25%", "25%"),
        (r"25\%", r"25\%"),
        (".75", ".75"),
        ("he has...5", "5"),
        ("1.5e6", "1.5e6"),
        (r"3 \times 10^{5}", r"3 \times 10^{5}"),
        ("2^{10}", "2^{10}"),
        ("14{,}916", "14{,}916"),
        ("1 000 000", "1 000 000"),
        ("at 3:45 pm", "3:45 pm"),
        ("１２３．", "123"),
        ("−5", "-5"),
        ("共有858颗。", "858"),
        ("USD100", "100"),
        ("5 m^2", "5"),
        ("5 m²", "5"),
        ("5 s^{-1}", "5"),
        ("7 and x_2 or x2", "7"),
        ("H2O", None),
        ("", None),
        ("1, 2, 3", "3"),
        ("9" * 5000, "9" * 5000),
        ("8 " + "x" * 20_000, "8"),
    ],
)
def test_the_last_number_as_it_is_written(text: str, answer: str | None) -> None:
    assert found(text, "last_number")[0] == answer


# ---------------------------------------------------------------- choices


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("The answer is (A)", "A"),
        ("The final answer is (B). I hope it is correct.", "B"),
        ("The correct answer is **B. 12**", "B"),
        ("the correct option is b.", "B"),
        ("Answer: C\n", "C"),
        ("答案是 BC", "BC"),
        ("故选 ABD.", "ABD"),
        ("应选D", "D"),
        (r"\boxed{\text{A}}", "A"),
        (r"\boxed{\textbf{(C)}}", "C"),
        (r"\boxed{\text{D, A and C}}", "ACD"),
        (r"\boxed{B. 12}", "B"),
        ("I would go with D.", "D"),
        ("A) is wrong.\nB) is right, so\n(B)", "B"),
        ("the answer is a number", None),
        ("The answer is A number", None),
        ("no letter", None),
    ],
)  # fmt: skip
def test_choices(text: str, letters: str | None) -> None:
    assert found(text, "choice")[0] == letters


# ---------------------------------------------------------------- the official ones


@pytest.mark.parametrize(
    ("extractor", "text", "answer"),
    [
        ("paper_gsm8k_few_shot", "It is 70,000 eggs", "000"),
        ("paper_gsm8k_few_shot", "It is 7.\n\nQ: 8", "7."),
        ("paper_answer", "It is 70,000.", "70000"),
        ("paper_answer", "It is 3. The answer is 4.", "4"),
        ("paper_answer", r"\boxed{1} \boxed{2}", "2"),
        ("paper_answer", "The final answer is $5$. I hope it is \\boxed{6}", "5"),
        ("paper_math", r"\boxed{1} or \boxed{2}", r"\boxed{1}, \boxed{2}"),
        ("paper_math", r"\boxed{1 \text{ and } 2}", r"\boxed{1}, \boxed{2}"),
        ("paper_math", r"\boxed{3}", "3"),
        ("paper_cmath_few_shot", "答案是：从45到46。\n问题：47", "46"),
        ("paper_mathcloze", "答案是 $2$;$3$\n4", "2$;$3"),
        ("paper_mathqa", "答案是 BCB", "C"),
        ("paper_choice", "The final answer is (b).", "B"),
        ("paper_choice", "The answer is (B).", None),
        ("paper_ocw", "The final answer is 4.5e33. I hope it is correct.", "4.5e33"),
        ("paper_ocw", "4.5e33", None),
    ],
)
def test_the_official_extractors(extractor: str, text: str, answer: str | None) -> None:
    assert found(text, extractor)[0] == answer


# ---------------------------------------------------------------- any text


def test_an_unknown_extractor_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="extractor=finale: must be one of final, boxed"):
        extract("1", "finale")


@pytest.mark.parametrize(
    ("text", "answer"),
    [("x + 1", "x + 1"), (r"12 \text{ square meters}", r"12 \text{ square meters}"), ("(1, 2)", "(1, 2)"),
     ("Therefore $x > 5$ is the solution.", "x > 5"), ("the volume of the prism is 120", "120"), (r"\boxed{7}", "7")],
)  # fmt: skip
def test_a_bare_answer_stays_and_a_sentence_is_searched(text: str, answer: str) -> None:
    assert bare(text) == answer


def garbage(count: int) -> list[str]:
    """Texts of fragments that extractors look for, in an order without sense."""
    pieces = [
        "\\boxed{", "}", "{", "\\", "$", "$$", "\\(", "\\)", "#### ", "\n", " ", "The answer is ", "答案是",
        "final answer is ", ". I hope it is correct.", "```output\n", "```", "1", "-", ",", "000", ".", "/", "%",
        "\\frac{", "1}{2}", "^", "_2", "故选", "A", "(B)", "\0", "\ud83d", "\u200b", "é", "²", "½", "\\text{",
        "and", "or", "e5", "::", "**", "\\\\", "\\begin{x}", "\\end{x}",
    ]  # fmt: skip
    chance = random.Random(0)
    return ["".join(chance.choices(pieces, k=chance.randint(1, 40))) for _ in range(count)]


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_no_text_raises(extractor: str) -> None:
    for text in garbage(200):
        extraction = extract(text, extractor)
        assert extraction.answer is None or (extraction.answer and extraction.rule != "none")


MEGABYTES = [
    "1", "1,", "1/", "1.", "9:", "-", "$", "$1", " ", "\n", "{", "}", "\\", "\\boxed{", "\\boxed{1}", "\\boxed{1} and ",
    "\\boxed ", "#### ", "#### 1\n", "answer is ", "answer is 1\n", "答案是", "final answer is ", "final answer is $",
    "I hope it is correct. ", "```output\n", "\\frac{", "\\frac{1}", "\\(", "\\[x", "a", "(A", "A, ", "选", "\\text{",
    "**", "x_", "boxed{", "\\begin{a}",
]  # fmt: skip


@pytest.mark.parametrize("extractor", ["final", "choice", "minerva", "paper_math", "last_number"])
def test_time_is_linear_in_the_length(extractor: str) -> None:
    """40,000 characters of each piece, alone, before and behind something to find: quadratic time would be seconds."""
    slowest = 0.0
    for piece in MEGABYTES:
        text = piece * (40_000 // len(piece))
        for variant in (text, text + " 1", "The answer is 5. " + text):
            start = time.process_time()
            extract(variant, extractor)
            slowest = max(slowest, time.process_time() - start)
    assert slowest < 0.7


def test_boxes_say_where_they_are() -> None:
    text = r"a \boxed{1} b \fbox{2}"
    assert [text[box.start : box.end] for box in boxes(text)] == [r"\boxed{1}", r"\fbox{2}"]
