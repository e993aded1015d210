"""From normalised text to tokens. LaTeX, unicode, plain and Python notation come out as one stream."""

from __future__ import annotations

import re
from typing import NamedTuple

from dsm.answers.nodes import MAX_CHARS, ParseError
from dsm.answers.parse.vocabulary import (
    BARE_COMMANDS,
    CHINESE_NUMBERS,
    CONSTANTS,
    CURRENCIES,
    ENGLISH,
    FONT_COMMANDS,
    FUNCTIONS,
    GREEK,
    NUMBER_WORDS,
    RELATIONS,
    SCALE_WORDS,
    SETS,
    SHORT_CALLS,
    TEXT_COMMANDS,
)  # fmt: skip
from dsm.answers.units import is_unit

MAX_TOKENS = 1_500


class Token(NamedTuple):
    """`kind`: num, repeating, name, const, func, word, rel, sep, cur, cmd (a command with arguments), op, end."""

    kind: str
    text: str
    space: bool = False
    """White space stands in front of it."""


END = Token("end", "")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<repeating>\d*\.\d*(?:\\(?:overline|bar|dot)\s*\{\s*\d+\s*\}|(?<=\.)\(\d+\)|(?<=\.\d)\(\d{1,12}\)|(?<=\.\d\d)\(\d{1,12}\))(?!\d))
    |(?P<num>\d+(?:,\d{3})+(?![\d,]*\d)(?:\.\d+)?|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![a-zA-Z\d.]))?)
    |(?P<command>\\[a-zA-Z]+|\\.)
    |(?P<module>(?:sympy|sp|np|numpy|math|S)\.(?=[A-Za-z]))
    |(?P<letters>Interval\.(?:open|Lopen|Ropen)|[a-zA-Z]+)
    |(?P<cjk>[\u3400-\u9fff]+)
    |(?P<rel>\*\*|<=|>=|=<|=>|!=|==|:=|->|\.\.\.|''?)
    |(?P<char>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_NUM = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![a-zA-Z\d.]))?")
_INLINE = re.compile(r"[\d\s.,;+\-*/=()\[\]^%:<>|!{}\\$]*")
_CONJUNCTION = re.compile(r"\s*[,;]?\s*(?:and|or|或者|或|和|以及|及|与|且|并且)\s*[,;]?\s*")
_SEPARATORS = {
    "and": "and",
    "or": "or",
    "或": "or",
    "或者": "or",
    "和": "and",
    "以及": "and",
    "及": "and",
    "与": "and",
    "且": "and",
    "并且": "and",
}
_COMPOUND = re.compile(
    r"arc(?:sin|cos|tan|cot|sec|csc)|(?:sin|cos|tan|cot|sec|csc)h?|sqrt|log|ln|exp|pi|theta|alpha|beta|gamma"
)
_GLUED = re.compile("(?:and|or)(?=[A-Z]|[a-z]$)")
_VARIABLES = frozenset("abcdkmnpqrstuvwxyz")
_CJK_PARTS = re.compile("或者|以及|并且|大约|等于|[或和与及且]|[是为约]|[^或和与及且是为约]+")


def tokenise(text: str, *, thousands: bool = True) -> list[Token]:
    """The tokens of a normalised text, with an end token.

    `thousands=False` reads every comma as a separator.

    Raises:
        ParseError: if the text is over a size limit or has an unclosed \\text.
    """
    if len(text) > MAX_CHARS:
        raise ParseError(f"longer than {MAX_CHARS} characters")
    return _Lexer(text, thousands).run()


class _Lexer:
    def __init__(self, text: str, thousands: bool) -> None:
        self.text = text
        self.thousands = thousands
        self.tokens: list[Token] = []
        self.space = False
        self.brackets: list[str] = []

    def run(self) -> list[Token]:
        self.lex(0, len(self.text))
        self.tokens.append(END)
        return self.tokens

    def add(self, kind: str, text: str) -> None:
        if len(self.tokens) >= MAX_TOKENS:
            raise ParseError(f"more than {MAX_TOKENS} tokens")
        self.tokens.append(Token(kind, text, self.space))
        self.space = False

    def lex(self, start: int, stop: int) -> None:
        position = start
        while position < stop:
            match = _TOKEN.match(self.text, position, stop)
            assert match is not None  # the last alternative takes any character
            kind, value = match.lastgroup, match[0]
            position = match.end()
            if kind == "space":
                self.space = True
            elif kind == "module":
                continue
            elif kind == "num":
                position = self.number(value, match.start())
            elif kind == "repeating":
                self.add("repeating", value)
            elif kind == "command":
                position = self.command(value, position)
            elif kind == "letters":
                position = self.letters(value, position)
            elif kind == "cjk":
                self.chinese(value)
            else:
                self.sign(value)

    def number(self, value: str, start: int) -> int:
        in_brackets = bool(self.brackets) and self.brackets[-1] != "{"
        if "," in value and (in_brackets or not self.thousands or value.startswith("0")):
            plain = _PLAIN_NUM.match(self.text, start)
            assert plain is not None
            value = plain[0]
        if self.fraction_digit() and value[0].isdigit():
            value = value[0]
        end = start + len(value)
        if value.endswith(".") and (end == len(self.text) or self.text[end] in " .,;"):
            value = value[:-1]  # a full stop, not a decimal point
            end -= value == "" or self.text.startswith("..", end)
        if value:
            self.add("num", value)
        return end

    def fraction_digit(self) -> bool:
        """Whether a digit here is a whole argument: \\frac12."""
        last = self.tokens[-1:]
        if last and last[0].kind == "num" and len(last[0].text) == 1:
            last = self.tokens[-2:-1]
        return bool(last) and last[0].kind == "cmd" and last[0].text in ("frac", "binom")

    def sign(self, value: str) -> None:
        if value in "([{":
            self.brackets.append(value)
        elif value in ")]}" and self.brackets:
            self.brackets.pop()
        if value in RELATIONS:
            self.add("rel", RELATIONS[value])
        elif value in ",;":
            self.add("sep", value)
        elif value in CURRENCIES:
            self.add("cur", CURRENCIES[value])
        elif value == "...":
            self.add("const", "ellipsis")
        elif value == "$":
            self.space = True
        else:
            self.add("op", {"**": "^"}.get(value, value))

    def command(self, value: str, position: int) -> int:
        name = value[1:]
        if name in TEXT_COMMANDS or name in FONT_COMMANDS:
            return self.styled(name, position)
        if name == "mathbb":
            return self.blackboard(position)
        if value in RELATIONS:
            self.add("rel", RELATIONS[value])
        elif value in CURRENCIES:
            self.add("cur", CURRENCIES[value])
        elif name in CONSTANTS:
            self.add("const", CONSTANTS[name])
        elif name in GREEK:
            self.add("name", name)
        elif name in FUNCTIONS:
            self.add("func", FUNCTIONS[name])
        elif name == "{":
            self.brackets.append("\\{")
            self.add("op", "\\{")
        elif name == "}":
            if self.brackets:
                self.brackets.pop()
            self.add("op", "\\}")
        elif name in ("[", "]", "(", ")"):
            self.space = True  # a stray maths delimiter
        elif name in ("wedge", "vee"):
            self.add("sep", "and" if name == "wedge" else "or")
        elif name == "%":
            self.add("op", "%")
        elif name == "&":
            self.add("sep", "and")
        else:
            self.add("cmd", name)
        return position

    def blackboard(self, position: int) -> int:
        match = re.compile(r"\s*\{?\s*([A-Z])\s*\}?").match(self.text, position)
        if match is None or match[1] not in SETS:
            raise ParseError("an unknown \\mathbb")
        self.add("const", SETS[match[1]])
        return match.end()

    def styled(self, command: str, position: int) -> int:
        """The argument of \\text{...} or \\mathrm{...}: words, or maths in upright letters."""
        while position < len(self.text) and self.text[position] == " ":
            position += 1
        if position >= len(self.text) or self.text[position] != "{":
            return position  # \rm x: only the style of what follows
        depth, end = 0, position
        for end in range(position, len(self.text)):
            depth += (self.text[end] == "{") - (self.text[end] == "}")
            if depth == 0:
                break
        if depth:
            raise ParseError("an unclosed \\text")
        content = self.text[position + 1 : end].strip()
        inside = (position + 1, end)
        if self.text[position + 1 : position + 2] == " ":
            self.space = True
        if not content:
            self.space = True
        elif _CONJUNCTION.fullmatch(content):
            self.add("sep", _SEPARATORS[content.strip(" ,;")])
        elif content in FUNCTIONS and (
            command in FONT_COMMANDS or content in ("cis", "lcm", "gcd", "sin", "cos", "log")
        ):
            self.add("func", FUNCTIONS[content])
        elif len(content) == 1 and content.isalpha() and content.isascii():
            unit = command in TEXT_COMMANDS and self.after_value() and self.space
            self.add(
                "word" if unit or (command == "mathrm" and self.after_value() and content not in "ei") else "name",
                content,
            )
        elif (
            _INLINE.fullmatch(content)
            or "\\" in content
            or (command in FONT_COMMANDS and not is_unit(content))
            or re.search(r"\d|^\(?[A-Z]\)?$|\b(?:and|or)\b", content)
        ):
            self.lex(*inside)
        else:
            self.words(content)
        return end + 1

    def words(self, content: str) -> None:
        if content.lower() in NUMBER_WORDS:
            self.add("num", str(NUMBER_WORDS[content.lower()]))
        else:
            self.add("word", content)

    def after_value(self) -> bool:
        """Whether the token before this one ends a value, so that a unit may follow."""
        if not self.tokens:
            return False
        last = self.tokens[-1]
        return last.kind in ("num", "repeating", "const", "name", "word") or last.text in ("}", ")", "]", "|", "%", "!")

    def letters(self, run: str, position: int) -> int:
        """Letters with no backslash: a name of the vocabulary, a word, a unit, or one-letter variables side by side."""
        following = self.text[position : position + 1]
        hyphenated = re.compile(r"-[a-z]+").match(self.text, position)
        if hyphenated and (run + hyphenated[0]).lower() in NUMBER_WORDS:
            run, position = run + hyphenated[0], hyphenated.end()
        if (
            glued := _GLUED.match(run)
            if self.tokens and not self.space and self.tokens[-1].kind in ("num", "op")
            else None
        ):
            self.add("sep", glued[0])
            return position - len(run) + len(glued[0])
        low = run.lower()
        if low in _SEPARATORS and not (run in ("And", "Or") and following == "("):
            self.add("sep", _SEPARATORS[low])
        elif low == "is" and self.space and self.tokens:
            self.add("rel", "=")
        elif (
            low == "to"
            and self.space
            and self.tokens
            and self.tokens[-1].kind == "num"
            and re.match(r"\s+\d", self.text[position:])
        ):
            self.add("op", ":")
        elif low in ENGLISH and (self.space or not self.tokens) and following in (" ", "", ".", ","):
            self.add("word", low)
        elif run in BARE_COMMANDS and (
            following in ("{", "", " ", "1") or run in ("times", "cdot", "infty", "cup", "leq", "geq")
        ):
            return self.bare_command(run, position)
        elif low in NUMBER_WORDS:
            self.add("num", str(NUMBER_WORDS[low]))
        elif low in SCALE_WORDS and len(run) > 1:
            self.add("word", low)
        elif run in CURRENCIES and not self.after_value():
            self.add("cur", CURRENCIES[run])
        elif (
            run == "in"
            and self.tokens
            and self.tokens[-1].kind == "name"
            and re.match(r"\s*[(\[{\\]", self.text[position:])
        ):
            self.add("rel", "in")
        elif (
            run in FUNCTIONS
            and (len(run) > 2 or run in ("ln", "lg", "tg") or following == "(")
            and (run != "min" or following == "(")
        ):
            self.add("func", FUNCTIONS[run])
        elif run in CONSTANTS:
            self.add("const", CONSTANTS[run])
        elif run in GREEK:
            self.add("name", run)
        elif len(run) == 1:
            return self.letter(run, position)
        elif (
            is_unit(run)
            and self.after_value()
            and (self.space or self.tokens[-1].kind == "num")
            and following not in ("(", "_")
        ):
            self.add("word", run)
        elif following == "(" and (len(run) > 2 or run in SHORT_CALLS):
            self.add("func", "@" + run)
        else:
            self.variables(run)
        return position

    def letter(self, letter: str, position: int) -> int:
        index = re.compile(r"\d+(?![\d.])").match(self.text, position)
        if index and not (letter in "eE" and self.tokens and self.tokens[-1].kind == "num"):
            self.add("name", f"{letter}_{index[0]}")
            return index.end()
        self.add("name", letter)
        return position

    def bare_command(self, run: str, position: int) -> int:
        if run in TEXT_COMMANDS or run in FONT_COMMANDS:
            return self.styled(run, position)
        if run == "mathbb":
            return self.blackboard(position)
        again = {"dfrac": "frac", "tfrac": "frac", "leq": "le", "geq": "ge", "neq": "ne", "times": "cdot"}.get(run, run)
        return self.command("\\" + again, position)

    def variables(self, run: str) -> None:
        parts: list[tuple[str, str]] = []
        start = loose = 0
        while start < len(run):
            found = _COMPOUND.match(run, start)
            if found and found[0] in FUNCTIONS and found[0] not in GREEK:
                parts.append(("func", FUNCTIONS[found[0]]))
            elif found:
                parts.append(("const", "pi") if found[0] == "pi" else ("name", found[0]))
            else:
                parts.append(("name", run[start]))
                loose += 1
            start = found.end() if found else start + 1
        compound = loose < len(run) and loose <= 3
        product = (
            len(run) <= 3
            or (set(run) <= _VARIABLES and not set(run) & set("aeiou") and len(run) <= 6)
            or (run.isupper() and len(run) <= 5)
        )
        if not compound and not product:
            self.add("word", run)
            return
        for kind, value in parts:
            self.add(kind, value)

    def chinese(self, run: str) -> None:
        for part in _CJK_PARTS.findall(run):
            if part in _SEPARATORS:
                self.add("sep", _SEPARATORS[part])
            elif part in ("等于", "是", "为"):
                self.add("rel", "=") if self.tokens else None
            elif part in CHINESE_NUMBERS and len(part) == 1 and not self.after_value():
                self.add("num", str(CHINESE_NUMBERS[part]))
            elif part not in ("大约", "约"):
                self.add("word", part)
