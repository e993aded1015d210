"""`stage=tokenizer`, from a checked configuration to the tokenizer in its run folder."""

from __future__ import annotations

import json
import logging
from itertools import islice
from typing import Any

from dsm.config.run import TokenizerConfig
from dsm.data import tokenizer as tokenizers
from dsm.data.texts import read_texts
from dsm.files import atomic_directory, atomic_write_text
from dsm.runtime.session import session

log = logging.getLogger("dsm")


def train_tokenizer(config: TokenizerConfig) -> dict[str, Any]:
    """`stage=tokenizer`: learn a byte-level BPE; returns its size and how well it compresses."""
    with session(config) as here:
        if here.run.finished is not None:
            return here.run.finished
        learnt = config.tokenizer
        tokenizer = tokenizers.train_tokenizer(
            read_texts(config.data), learnt.vocab_size, min_frequency=learnt.min_frequency
        )
        with atomic_directory(here.run.export) as folder:
            tokenizers.save_tokenizer(tokenizer, folder)
        report = tokenizers.tokenizer_report(tokenizer, islice(read_texts(config.data), 2000))
        final = {f"tokenizer/{key}": value for key, value in report.items()} | {"export": str(here.run.export)}
        log.info(
            "tokenizer: %s ids, %.2f bytes a token, in %s", len(tokenizer), report["bytes_per_token"], here.run.export
        )
        atomic_write_text(here.run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
        return final
