"""The plans of the stages that read texts: learning a tokenizer, making token stores."""

from __future__ import annotations

from dsm.config.plan.disk import source_row, tokenizer_ids, tokenizer_row
from dsm.config.plan.table import Rows, count, size
from dsm.config.run import TokenizerConfig
from dsm.config.store import TokenizeConfig


def tokenizer_sections(config: TokenizerConfig) -> dict[str, Rows]:
    """What is read, and how many ids there will be."""
    rows = [source_row(f"source {name}", source.path) for name, source in config.data.sources.items()]
    limit, every = config.data.max_bytes, config.data.every
    part = "all of it" if every == 1 else f"one row in {every:,}"
    rows.append(("read", part if limit is None else f"{part}, at most {size(limit)} of text"))
    learnt = config.tokenizer
    text = f"at most {learnt.vocab_size:,} ids; pairs seen fewer than {learnt.min_frequency} times are not merged"
    return {"Data": rows, "Tokenizer": [("vocabulary", text)]}


def tokenize_sections(config: TokenizeConfig) -> dict[str, Rows]:
    """What is read, by which tokenizer, and what a store looks like."""
    ids, store = tokenizer_ids(config.tokenizer_path), config.store
    rows = [source_row(f"source {name}", source.path) for name, source in config.data.sources.items()]
    held_out = store.held_out
    share = f"{held_out.fraction:.2%} of the documents, at most {held_out.max_documents:,} of a source"
    marks = " and ".join(name for name, there in (("BOS before", store.bos), ("EOS behind", store.eos)) if there)
    width = "2 or 4 bytes a token, by the tokenizer's ids"
    if ids is not None:
        width = f"{'uint16, 2' if ids <= 1 << 16 else 'uint32, 4'} bytes a token"
    shard = f"{count(store.shard_tokens)} tokens"
    return {
        "Data": [
            *rows,
            tokenizer_row(config.tokenizer_path, ids),
            ("held out", share if held_out.fraction else "nothing"),
        ],
        "Stores": [
            ("format", f"{width}, {marks} each document, shards of at most {shard}"),
            ("workers", "one a core" if store.workers is None else f"{store.workers:,}"),
        ],
    }
