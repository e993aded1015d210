"""The corpus as `stage=tokenize` reads it, and the account of every record that went into a run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

from dsm.corpus.mine_clean import FIELDS
from dsm.corpus.pages import read_parquet
from dsm.corpus.rounds_steps import collected_in
from dsm.corpus.steps import Manifest, Task
from dsm.files import atomic_directory

CORPUS = "corpus.jsonl.zst"


@dataclass(frozen=True)
class ExportStep:
    """Rows of JSON. Inputs: pages, scores, `collected` of all rounds, and the cleaned pages where they were cleaned."""

    rounds: int
    name: str = "export"
    version: str = "1"

    def settings(self) -> dict[str, Any]:
        """How many inputs are rounds."""
        return {"rounds": self.rounds}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write text, url, url_hash, domain, language, score, round (the first that collected it), source, offset."""
        pages, scored, *others = task.inputs
        rounds, cleaned = others[: self.rounds], others[self.rounds :]
        collected = np.stack([collected_in(path) for path in rounds])
        rows = np.flatnonzero(collected[-1])
        hashes = read_parquet(pages, ["url_hash"]).column("url_hash").to_numpy()[rows].tolist()
        scores = read_parquet(scored, ["score"]).column("score").to_numpy()[rows].tolist()
        firsts = (collected[:, rows].argmax(axis=0) + 1).tolist()
        known = {key: (score, first) for key, score, first in zip(hashes, scores, firsts, strict=True)}
        table = read_parquet(cleaned[0] if cleaned else pages, [*FIELDS, "text"])
        if not cleaned:
            table = table.take(pa.array(rows))
        counts = {"in": len(table), "out": 0, "empty": 0}
        with (
            (out / CORPUS).open("wb") as file,
            zstandard.ZstdCompressor(level=6).stream_writer(file, closefd=False) as packed,
        ):
            for batch in table.to_batches(1024):
                for row in batch.to_pylist():
                    text = row.pop("text")
                    if not text.strip():
                        counts["empty"] += 1
                        continue
                    score, first = known[row["url_hash"]]
                    told = {"text": text} | row | {"score": round(score, 6), "round": first}
                    packed.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
                    counts["out"] += 1
        if not counts["out"]:
            (out / CORPUS).unlink()
        return counts


def link_export(made: Manifest, folder: Path) -> None:
    """RUN/export/SHARD.jsonl.zst: the same files under names of their own."""
    with atomic_directory(folder) as new:
        for name, shard in made.shards.items():
            if CORPUS in shard.files:
                target = new / f"{name}.jsonl.zst"
                try:
                    os.link(shard.path(CORPUS), target)
                except OSError:  # a file system without links
                    shutil.copyfile(shard.path(CORPUS), target)


@dataclass(frozen=True)
class Account:
    """One step's line: what came in, what went on, and where the rest went, by reason."""

    step: str
    came: int
    went_on: int
    reasons: dict[str, int]


def reconcile(chain: Sequence[tuple[str, Manifest, str]]) -> tuple[list[Account], list[str]]:
    """Follow the records through the steps of a run: what one lets through is what the next has to account for.

    Args:
        chain: (name, manifest, reason) of the steps in order. A step that sees all pages of the table counts those that
            earlier ones have set aside once more, under this reason; here they are taken out.

    Returns:
        One account a step, and what does not balance, in words.
    """
    accounts: list[Account] = []
    wrong: list[str] = []
    gone = 0  # from the page table, by the steps so far
    for name, manifest, repeated in chain:
        total = manifest.total()
        reasons = {key: n for key, n in sorted(total.items()) if key not in ("in", "out") and not key.startswith("_")}
        again = reasons.pop(repeated, 0) if repeated else 0
        came, out = total["in"] - again, total["out"]
        if came != out + sum(reasons.values()):
            wrong.append(f"{name}: {came:,} came in, {out + sum(reasons.values()):,} are accounted for")
        if accounts and came != accounts[-1].went_on:
            wrong.append(f"{name}: {accounts[-1].step} let {accounts[-1].went_on:,} through, {came:,} came here")
        if again not in (0, gone):
            wrong.append(f"{name}: {again:,} had been set aside before ({repeated}), by the steps before {gone:,}")
        if accounts:
            gone += sum(reasons.values())
        accounts.append(Account(name, came, out, reasons))
    return accounts, wrong


def reconciliation(accounts: Sequence[Account], wrong: Sequence[str]) -> dict[str, Any]:
    """All of it as JSON: the steps, and over the whole chain every record's fate."""
    fates: dict[str, int] = {"out": accounts[-1].went_on}
    for account in accounts:
        fates |= {f"{account.step}/{reason}": count for reason, count in account.reasons.items()}
    steps = [{"step": one.step, "in": one.came, "out": one.went_on, "reasons": one.reasons} for one in accounts]
    came, told = accounts[0].came, sum(fates.values())
    if came != told and not wrong:
        wrong = [f"{came:,} records came in, {told:,} are accounted for"]
    return {"in": came, "fates": fates, "balances": not wrong, "wrong": list(wrong), "steps": steps}
