"""Byte-level BPE as DeepSeek's: digits stand alone, and no token mixes classes of characters.

The merges are learned inside *pieces*. A piece is one of: a line break, a digit, a run of Chinese, Japanese or Korean
characters, a run of letters, a run of punctuation and symbols, or a run of blanks; letters and punctuation may carry
the one space before them. Since merges never leave a piece, every token of the vocabulary lies within one class. All
256 bytes are in the alphabet, so every text can be encoded, comes back unchanged, and there is no unknown token.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dsm.config.base import HUB_PREFIX
from dsm.errors import UserError

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
RESERVED = tuple(f"<|reserved_{i}|>" for i in range(5))
SPECIAL_TOKENS = (BOS, EOS, PAD, *RESERVED)  # their ids are 0, 1, 2, ...
MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)

# The long-vowel mark and its half-width form belong to no single script, so they are named beside the scripts.
_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\x{30FC}\x{FF70}"
# One alternation instead of a chain of splits: the first alternative that matches wins, whatever is left over (control
# and unassigned characters) stays between the matches as pieces of its own. `\s+(?!\S)` leaves the last blank of a run
# to the word after it.
PIECES = "|".join(
    [
        r"[\r\n]",
        r"\p{N}",
        rf"[{_CJK}&&[^\p{{N}}]]+",
        rf" ?[\p{{L}}\p{{M}}&&[^{_CJK}]]+",
        r" ?[\p{P}\p{S}]+",
        r"[^\S\r\n]+(?!\S)",
        r"[^\S\r\n]+",
    ]
)

logger = logging.getLogger(__name__)


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    model_max_length: int = 4096,
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE of at most `vocab_size` tokens, special tokens and the 256 bytes included.

    A pair of tokens is merged only if it occurs at least `min_frequency` times, so a small corpus may give a smaller
    vocabulary: that is logged as a warning, and `len(tokenizer)` is the size reached. The same texts give the same
    tokenizer.

    Raises:
        UserError: `vocab_size` has no room for the bytes and the special tokens, or there is no text.
    """
    from dsm.data.formats import chat_template_jinja

    if vocab_size < MIN_VOCAB_SIZE:
        raise UserError(
            f"vocab_size={vocab_size}: too small; at least {MIN_VOCAB_SIZE} "
            f"(256 bytes and {len(SPECIAL_TOKENS)} special tokens)"
        )
    non_empty = (text for text in texts if text)
    first = next(non_empty, None)
    if first is None:
        raise UserError("texts: nothing to train a tokenizer on; at least one text that is not empty")

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=show_progress,
    )
    backend.train_from_iterator(chain([first], non_empty), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS}:1 $B:1",
        special_tokens=[(BOS, backend.token_to_id(BOS))],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=model_max_length,
        padding_side="left",
    )
    tokenizer.chat_template = chat_template_jinja()
    if len(tokenizer) < vocab_size:
        logger.warning(
            "vocab_size=%d: the texts hold only enough pairs seen %d times or more for %d tokens",
            vocab_size,
            min_frequency,
            len(tokenizer),
        )
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write `tokenizer.json`, its configuration and its chat template; `AutoTokenizer` loads the folder."""
    # The last call's truncation and padding would be written along, and cut the texts of whoever loads tokenizer.json.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(str(folder))
    config_file = Path(folder) / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    # transformers 5 writes a class name that version 4, still found inside inference engines, does not know.
    if config["tokenizer_class"] == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        config_file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_tokenizer(path: str) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer from a local folder, or from the hub where the user names one as `hub:org/name`.

    A tokenizer without a padding token gets a reserved token it already has, else its end token: no id is added, since
    the model that goes with it has no row for one.

    Raises:
        UserError: no such folder, no fast tokenizer in it, or a tokenizer without an end-of-sequence token.
    """
    name, from_hub = path.removeprefix(HUB_PREFIX), path.startswith(HUB_PREFIX)
    if not from_hub and not Path(name).is_dir():
        raise UserError(f"tokenizer={path}: no such folder; a local tokenizer folder or {HUB_PREFIX}org/name")
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=not from_hub)
    except Exception as error:  # transformers reports broken files and hub failures by many unrelated types
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"tokenizer={path}: cannot be loaded ({reason[0]})") from error
    if not tokenizer.is_fast:
        raise UserError(f"tokenizer={path}: has no tokenizer.json; only fast tokenizers are supported")
    if tokenizer.eos_token_id is None:
        raise UserError(f"tokenizer={path}: has no end-of-sequence token; set eos_token in its tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = _spare_token(tokenizer) or tokenizer.eos_token
    return tokenizer


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 (hex) of all that decides which ids a text or a conversation becomes; guards resume and caches."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    for state in ("truncation", "padding"):  # left behind by the last call, not content
        backend.pop(state, None)
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    content = {"backend": backend, "special": special, "chat_template": tokenizer.chat_template}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def tokenizer_report(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> dict[str, Any]:
    """How well a tokenizer fits the texts: their UTF-8 `bytes`, `tokens` (no bos), `bytes_per_token`; `vocab_size`."""
    n_bytes = n_tokens = 0
    for text in texts:
        n_bytes += len(text.encode())
        n_tokens += len(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)
    return {
        "bytes": n_bytes,
        "tokens": n_tokens,
        "bytes_per_token": n_bytes / max(n_tokens, 1),
        "vocab_size": len(tokenizer),
    }


def _spare_token(tokenizer: PreTrainedTokenizerFast) -> str | None:
    """A special token that nothing else uses and whose name says it may be taken: for padding, else a reserved one."""
    used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token}
    free = [
        token.content
        for _, token in sorted(tokenizer.added_tokens_decoder.items())
        if token.special and token.content not in used
    ]
    return next((token for word in ("pad", "reserved", "unused") for token in free if word in token.lower()), None)
