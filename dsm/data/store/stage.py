"""`stage=tokenize`: documents into token stores, one a source."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from dsm.config.store import TokenizeConfig
from dsm.data.store.manifest import VALIDATION, Manifest, StoreTokenizer, read_manifest, token_type
from dsm.data.store.run import TokeniseRun
from dsm.data.store.slices import Source
from dsm.data.store.worker import Encoding
from dsm.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from dsm.errors import UserError
from dsm.files import atomic_write_text
from dsm.runtime.session import session

log = logging.getLogger("dsm")


def tokenize(config: TokenizeConfig) -> dict[str, Any]:
    """Make `<run>/export/NAME` of every `data.sources.NAME`; returns the final metrics.

    Killed at any instant, the same command goes on where it stopped; the stores are the same to the byte.
    """
    with session(config) as here:
        if here.run.finished is not None:
            return here.run.finished
        sources = {name: Source.of(name, source, config.data) for name, source in config.data.sources.items()}
        encoding, tokenizer = encoding_of(config)
        run, began = TokeniseRun(sources, encoding, tokenizer, config.store), time.monotonic()
        log.info(
            "tokenizer: %s ids, stored as %s; %d processes", f"{encoding.vocab_size:,}", encoding.dtype, run.workers
        )
        made = run.run(here.run.path / "work", here.run.export)
        seconds = time.monotonic() - began
        final: dict[str, Any] = {}
        for name, manifest in made.items():
            final |= {f"{name}/{key}": value for key, value in _facts(manifest, here.run.export / name).items()}
            log.info(
                "%s: %s tokens in %s documents (%.2f bytes a token), %s rows set aside, %s documents held out",
                name,
                *(f"{final[f'{name}/{key}']:,}" for key in ("tokens", "documents")),
                final[f"{name}/bytes_per_token"],
                *(f"{final[f'{name}/{key}']:,}" for key in ("rejected", "held_out_documents")),
            )
        tokens = sum(manifest.tokens for manifest in made.values())
        final |= {
            "tokens": tokens,
            "documents": sum(manifest.documents for manifest in made.values()),
            "bytes_per_token": sum(manifest.text_bytes for manifest in made.values()) / tokens,
            "tokens_per_second": run.tokens / seconds,
            "export": str(here.run.export),
        }
        log.info("%s tokens, %s a second, in %s", f"{tokens:,}", f"{run.tokens / seconds:,.0f}", here.run.export)
        atomic_write_text(here.run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
        return final


def encoding_of(config: TokenizeConfig) -> tuple[Encoding, StoreTokenizer]:
    """What the worker processes need, and what the manifests say of it.

    Raises:
        UserError: the tokenizer cannot be loaded, or has no start token where one is asked for.
    """
    tokenizer = load_tokenizer(config.tokenizer_path)
    if config.store.bos and tokenizer.bos_token_id is None:
        raise UserError(f"store.bos=true: the tokenizer in {config.tokenizer_path} has no start token; allowed: false")
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    vocab_size = max(tokenizer.get_vocab().values()) + 1
    noted = StoreTokenizer(
        fingerprint=tokenizer_fingerprint(tokenizer),
        vocab_size=vocab_size,
        eos_id=tokenizer.eos_token_id if config.store.eos else None,
        bos_id=tokenizer.bos_token_id if config.store.bos else None,
    )
    encoding = Encoding(
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        vocab_size=vocab_size,
        dtype=token_type(vocab_size),
        eos_id=noted.eos_id,
        bos_id=noted.bos_id,
        control_ids=tuple(sorted((special | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id})),
        held_out=config.store.held_out.fraction,
        seed=config.seed,
    )
    return encoding, noted


def _facts(manifest: Manifest, folder: Path) -> dict[str, float]:
    """What metrics.json says of one store."""
    validation = folder / VALIDATION
    held = read_manifest(validation, str(validation)) if validation.is_dir() else None
    return {
        "tokens": manifest.tokens,
        "documents": manifest.documents,
        "bytes_per_token": manifest.text_bytes / manifest.tokens,
        "shards": len(manifest.shards),
        "rejected": sum(manifest.rejected.values()),
        "held_out_documents": held.documents if held else 0,
        "held_out_tokens": held.tokens if held else 0,
    }
