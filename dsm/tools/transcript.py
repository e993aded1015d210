"""What a model reads of a program's run: the output block, as the training data has it, cut to size.

Form and sizes follow DeepSeekMath's evaluation. Unlike there, a program that prints nothing is not called an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dsm.config.tools import ToolConfig
from dsm.sandbox import Execution

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OUTPUT_MARKER = "```output"
_ENDINGS = {
    "timeout": "Timeout Error",
    "output": "Output Limit Error",
    "memory": "MemoryError",
    "killed": "Process killed",
    "crashed": "Process crashed",
}
_FRAME = re.compile(r'  File "[^"]*", line \d+, in (.*)')


def output_block(text: str, *, after: str, fence_open: bool = False) -> str:
    """The block to append after a model's turn: marker, `text`, closing fence, each on lines of their own.

    `after` is the turn's text: its last line is ended if the model has not done so, and its fence closed if
    `fence_open`. Fences within `text` become ''' so that no output can pose as the end of its block.
    """
    start = "" if after.endswith("\n") else "\n"
    if fence_open:
        start += "```\n"
    return f"{start}{OUTPUT_MARKER}\n{text.replace('```', chr(39) * 3)}\n```\n"


def shown_output(execution: Execution, config: ToolConfig, tokenizer: PreTrainedTokenizerBase) -> str:
    """What a program printed, or the error that ended it, the middle of long ones left out."""
    if execution.status == "ok":
        return clip_text(execution.stdout.strip(), config.output_chars)
    if execution.status == "error":
        error = _last_line(execution.stderr) if config.errors == "last_line" else brief_traceback(execution.stderr)
    else:
        error = _ENDINGS[execution.status]
    shown = clip_tokens(error, config.error_tokens, tokenizer)
    return shown if config.errors == "last_line" else f"Runtime errors: {shown}".strip()


def clip_text(text: str, size: int) -> str:
    """Text of more than `size` characters as its two ends, half of `size` each, with `...` between them."""
    return text if len(text) <= size else f"{text[: size // 2]}...{text[-(size // 2) :]}"


def clip_tokens(text: str, size: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """Text of more than `size` tokens as its two ends, half of `size` each, with ` ... ` between them."""
    token_ids = encode(text, tokenizer)
    if len(token_ids) <= size:
        return text
    first, last = token_ids[: size // 2], token_ids[-(size // 2) :]
    return f"{decode(first, tokenizer).strip()} ... {decode(last, tokenizer).strip()}"


def brief_traceback(text: str) -> str:
    """A traceback without its header, line numbers, source lines and the frame of the program's main level.

    What is left: the functions on the way to the error, and the error.
    """
    lines: list[str] = []
    in_frame = False
    for line in text.strip().splitlines():
        if found := _FRAME.fullmatch(line):
            in_frame = True
            if found[1] != "<module>":
                lines.append(f"in {found[1]}")
        elif in_frame and line.startswith("    "):
            continue
        elif line != "Traceback (most recent call last):":
            in_frame = False
            lines.append(line)
    return "\n".join(lines).strip()


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def encode(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids as training encodes a segment: on its own, special tokens in it as text."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids


def decode(token_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of tokens, without special ones."""
    text = tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text
