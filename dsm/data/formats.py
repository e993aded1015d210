"""From rows to conversations, from conversations to text, from text to tokens with a training mask.

A row of any layout becomes an `Example`: turns in order, each trained on or not. A `ChatTemplate` renders it to
segments, each tokenised on its own: the border between what is trained on and what is not then always lies between two
tokens, and the prompt's tokens are exactly those the model is given when it generates. Trained on are the assistant's
words and the EOS that ends them; never the prompt, never what a program printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Literal

from dsm.config.data import SourceConfig
from dsm.data.layouts import RowError, Turn, read_turns
from dsm.data.records import Record, Rejected, raw_row, read_records
from dsm.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Style = Literal["cot", "pot", "tir"]

# What DeepSeekMath-Instruct was asked with (README of its evaluation code). It has none for PoT: those two are ours.
SUFFIXES: dict[tuple[str, str], str] = {
    ("cot", "en"): "Please reason step by step, and put your final answer within \\boxed{}.",
    ("cot", "zh"): "请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。",
    ("tir", "en"): "Please integrate natural language reasoning with programs to solve the problem above, "
    "and put your final answer within \\boxed{}.",
    ("tir", "zh"): "请结合自然语言和Python程序语言来解答问题，并把最终答案放置于\\boxed{}中。",
    ("pot", "en"): "Please write a Python program to solve the problem above.",
    ("pot", "zh"): "请编写Python程序来解答上面的问题。",
}
_OUTPUT = "```output"
_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation: [system,] user, assistant, ..., assistant. `style` is the format of its solution."""

    turns: tuple[Turn, ...]
    source: str
    location: str
    style: Style


@dataclass(frozen=True, slots=True)
class Segment:
    """Text that is tokenised on its own, or one of the tokenizer's special tokens (`text` is then empty)."""

    text: str
    train: bool
    special: Literal["bos_token", "eos_token"] | None = None


# ---------------------------------------------------------------- rows -> examples


def load_source(source: SourceConfig, *, key: str = "source") -> Iterator[Example | Rejected]:
    """Read and format a source: every row comes out once, in order, until `limit` good ones are through.

    Raises:
        UserError: if the source cannot be read (see `read_records`) or if not one of its rows can be used.
    """
    rows = read_records(source.path, split=source.split, key=f"{key}.path")
    return _until_limit((format_record(row, source) for row in rows), source, key)


def _until_limit(rows: Iterable[Example | Rejected], source: SourceConfig, key: str) -> Iterator[Example | Rejected]:
    good, bad, first_bad = 0, 0, None
    for row in rows:
        yield row
        if isinstance(row, Rejected):
            bad, first_bad = bad + 1, first_bad or row
            continue
        good += 1
        if good == source.limit:
            return
    if good == 0 and first_bad is not None:
        reason = f"{first_bad.location}: {first_bad.reason}"
        raise UserError(f"{key}.path={source.path}: none of its {bad} rows can be used; the first: {reason}")


def format_record(record: Record | Rejected, source: SourceConfig) -> Example | Rejected:
    """One row as an `Example`, or `Rejected` with the reason; a row already rejected passes through."""
    if isinstance(record, Rejected):
        return record
    try:
        turns = read_turns(record.row, source)
        if source.suffix:
            turns = _with_suffix(turns, source)
        if source.transform != "none":
            clean = TRANSFORMS[source.transform]
            turns = [replace(turn, content=clean(turn.content)) if turn.role == "assistant" else turn for turn in turns]
        parts = [split_outputs(turn.content) if turn.role == "assistant" else [turn] for turn in turns]
    except RowError as error:
        return Rejected(record.location, str(error), raw_row(record.row))
    turns = list(chain.from_iterable(parts))
    style = source.style if source.style != "none" else _found_style(turns)
    return Example(tuple(turns), source.path, record.location, style)


# ---------------------------------------------------------------- formats


def question_suffix(question: str, style: Style, language: Literal["auto", "en", "zh"] = "auto") -> str:
    """The instruction that ends a question of this style; `auto` is zh where the question has Chinese characters."""
    if language == "auto":
        language = "zh" if _CJK.search(question) else "en"
    return SUFFIXES[style, language]


def _with_suffix(turns: list[Turn], source: SourceConfig) -> list[Turn]:
    """The last question, whose answer ends the conversation, with its suffix (once, if it has it already)."""
    last = max(i for i, turn in enumerate(turns) if turn.role == "user")
    question = turns[last].content.rstrip()
    suffix = question_suffix(question, source.style, source.language)  # type: ignore[arg-type]  # the schema rules out "none"
    if question.endswith(suffix):
        return turns
    return [*turns[:last], replace(turns[last], content=f"{question}\n{suffix}"), *turns[last + 1 :]]


def split_outputs(text: str) -> list[Turn]:
    """Cut an assistant's message where the interpreter wrote: blocks from ```output to the closing fence, line end too.

    Those become tool turns; the rest, programs and their fences too, is the assistant's and trained on. The parts
    joined are the text.

    Raises:
        RowError: if a block is not closed, or opens in the middle of a line or of another block.
    """
    if _OUTPUT not in text:
        return [Turn("assistant", text, True)]
    turns: list[Turn] = []
    part, fence = "", None  # the part so far; the opening line of the block we are in
    for number, line in enumerate(re.split(r"(?<=\n)", text), start=1):
        mark = line.strip()
        if mark.startswith(_OUTPUT):
            if fence is not None:
                raise RowError(f"an assistant message opens {_OUTPUT} inside an unclosed {fence} block (line {number})")
            if part:
                turns.append(Turn("assistant", part, True))
            part = ""
        elif _OUTPUT in line:
            raise RowError(f"an assistant message has {_OUTPUT} in the middle of a line (line {number})")
        part += line
        if fence is None:
            fence = mark if mark.startswith("```") and "```" not in mark[3:] else None
        elif mark == "```":
            if fence.startswith(_OUTPUT):
                turns.append(Turn("tool", part, False))
                part = ""
            fence = None
    if fence is not None and fence.startswith(_OUTPUT):
        raise RowError(f"an assistant message has an unclosed {_OUTPUT} block")
    if part:
        turns.append(Turn("assistant", part, True))
    if not any(turn.train and turn.content.strip() for turn in turns):
        raise RowError("an assistant message holds program output only")
    return turns


def _found_style(turns: list[Turn]) -> Style:
    if any(turn.role == "tool" for turn in turns):
        return "tir"
    return "pot" if any(turn.role == "assistant" and "```python" in turn.content for turn in turns) else "cot"


_CALCULATOR = re.compile(r"<<[^<>]*>>")
_GSM8K_ANSWER = re.compile(r"\n?^#### *(\S.*?)\s*\Z", re.MULTILINE)


def clean_gsm8k(answer: str) -> str:
    """Drop calculator annotations and write the last line `#### 1,072` as `The answer is \\boxed{1072}.`"""
    found = _GSM8K_ANSWER.search(answer)
    if found is None:
        raise RowError("transform=gsm8k: the answer does not end with a '#### <number>' line")
    solution = _CALCULATOR.sub("", answer[: found.start()]).rstrip()
    return f"{solution}\nThe answer is \\boxed{{{found[1].replace(',', '')}}}.".lstrip()


TRANSFORMS: dict[str, Callable[[str], str]] = {"gsm8k": clean_gsm8k}


# ---------------------------------------------------------------- examples -> text


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """How turns become text. The defaults are the paper's chat form: `User: q\\n\\nAssistant: a<eos>`, BOS before all.

    `strip` takes white space off both ends of every message. The generation prompt ends right after `assistant_prefix`:
    `answer_space` belongs to the answer's first token, as it does when the model generates it.
    """

    user_prefix: str = "User: "
    separator: str = "\n\n"
    assistant_prefix: str = "Assistant:"
    answer_space: str = " "
    strip: bool = True


CHAT = ChatTemplate()
PLAIN = ChatTemplate(user_prefix="", separator="", assistant_prefix="", answer_space="", strip=False)
TEMPLATES = {"chat": CHAT, "plain": PLAIN}


def render(example: Example, template: ChatTemplate = CHAT) -> list[Segment]:
    """The segments of an example, BOS first, EOS (trained on) after every message of the assistant's."""
    return _render(example.turns, template)


def render_prompt(turns: Sequence[Turn], template: ChatTemplate = CHAT) -> list[Segment]:
    """The segments of a conversation that ends with a question, up to where the model takes over."""
    if not turns or turns[-1].role != "user":
        raise ValueError("a prompt must end with a user turn")
    return _render(turns, template)


def _render(turns: Sequence[Turn], template: ChatTemplate) -> list[Segment]:
    segments = [Segment("", False, "bos_token")]
    for is_answer, run in groupby(turns, key=lambda turn: turn.role in ("assistant", "tool")):
        if not is_answer:
            prompt = "".join(_prompt_text(turn, template) for turn in run)
            segments.append(Segment(prompt + template.assistant_prefix, False))
            continue
        parts = [Segment(turn.content, turn.train) for turn in run]
        if template.strip:
            parts[0] = replace(parts[0], text=parts[0].text.lstrip())
            parts[-1] = replace(parts[-1], text=parts[-1].text.rstrip())
        parts[0] = replace(parts[0], text=template.answer_space + parts[0].text)
        segments += [part for part in parts if part.text]
        segments.append(Segment("", any(part.train for part in parts), "eos_token"))
    return segments


def _prompt_text(turn: Turn, template: ChatTemplate) -> str:
    content = turn.content.strip() if template.strip else turn.content
    return (template.user_prefix if turn.role == "user" else "") + content + template.separator


def chat_template_jinja(template: ChatTemplate = CHAT) -> str:
    """The template for `tokenizer.chat_template`: `apply_chat_template` then gives the text that `render` gives."""
    content = "message['content'] | trim" if template.strip else "message['content']"
    user, separator, assistant, space = map(
        json.dumps, (template.user_prefix, template.separator, template.assistant_prefix, template.answer_space)
    )
    return (
        "{{ bos_token }}{% for message in messages %}"
        f"{{% if message['role'] == 'system' %}}{{{{ ({content}) + {separator} }}}}"
        f"{{% elif message['role'] == 'user' %}}{{{{ {user} + ({content}) + {separator} }}}}"
        "{% elif message['role'] == 'assistant' %}"
        f"{{% if loop.first or loop.previtem['role'] != 'tool' %}}{{{{ {assistant} + {space} }}}}{{% endif %}}"
        "{% if not loop.last and loop.nextitem['role'] == 'tool' %}{{ (message['content'] | trim) + '\\n' }}"
        "{% elif not loop.first and loop.previtem['role'] == 'tool' %}{{ (message['content'] | trim) + eos_token }}"
        f"{{% else %}}{{{{ ({content}) + eos_token }}}}{{% endif %}}"
        "{% elif message['role'] == 'tool' %}{{ '```output\\n' + (message['content'] | trim) + '\\n```\\n' }}"
        "{% endif %}{% endfor %}"
        f"{{% if add_generation_prompt %}}{{{{ {assistant} }}}}{{% endif %}}"
    )


# ---------------------------------------------------------------- text -> tokens


def tokenise_example(segments: Sequence[Segment], tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[bool]]:
    """Token ids and, for each, whether it is trained on. A tokenizer without a BOS token gets none.

    Special tokens come from segments only: text that spells one, `</s>` say, is encoded as text.
    """
    return next(_tokenise([segments], tokenizer))


def tokenise(
    examples: Iterable[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate = CHAT,
    *,
    batch_size: int = 1000,
) -> Iterator[tuple[list[int], list[bool]]]:
    """`tokenise_example` of every example, in order; one call of the tokenizer encodes `batch_size` of them."""
    examples = iter(examples)
    while batch := [render(example, template) for example in islice(examples, batch_size)]:
        yield from _tokenise(batch, tokenizer)


def _tokenise(
    batch: Sequence[Sequence[Segment]], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[list[int], list[bool]]]:
    if tokenizer.eos_token_id is None:
        raise UserError("tokenizer: has no EOS token; give it one, the model learns from it where an answer ends")
    special = {"bos_token": [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []}
    special["eos_token"] = [tokenizer.eos_token_id]
    texts = [segment.text for segments in batch for segment in segments if segment.special is None]
    encoding = tokenizer(
        texts, add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    )
    encoded = iter(encoding["input_ids"])
    for segments in batch:
        input_ids: list[int] = []
        trained: list[bool] = []
        for segment in segments:
            ids = next(encoded) if segment.special is None else special[segment.special]
            input_ids += ids
            trained += [segment.train] * len(ids)
        yield input_ids, trained
