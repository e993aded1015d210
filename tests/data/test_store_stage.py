"""`dsm stage=tokenize` from the command line, on real files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.runs import settings_hash
from dsm.data.store import TokenStore
from dsm.data.tokenizer import load_tokenizer, save_tokenizer, tokenizer_fingerprint
from tests.data.store_lab import MIXED, texts, tokenizer

TEXT = ["stage=tokenize", "data.sources.a.path=a.jsonl", "tokenizer.path=tokenizer"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts and a tokenizer, from which the command runs."""
    (tmp_path / "a.jsonl").write_bytes(MIXED)
    save_tokenizer(tokenizer(), tmp_path / "tokenizer")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_code_becomes_a_store(here: Path, shared_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = shared_data / "math" / "humaneval" / "test.jsonl"
    command = [*TEXT, f"data.sources.code.path={file}", "data.sources.code.fields=[prompt,canonical_solution]"]
    command += [
        "data.sources.code.separator=''",
        "store.workers=2",
        "store.held_out.fraction=0.1",
        "store.shard_tokens=9000",
    ]
    assert main(command) == 0
    (run,) = (here / "runs" / "tokenize").iterdir()
    metrics = json.loads((run / "metrics.json").read_text())
    code, known = TokenStore.open(run / "export" / "code", vocab_size=len(tokenizer())), load_tokenizer("tokenizer")
    code.verify()
    assert code.tokenizer_hash == tokenizer_fingerprint(known)
    assert code.validation is not None
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    written = {row["prompt"] + row["canonical_solution"] for row in rows}
    found = set()
    for store in (code, TokenStore.open(code.validation)):
        starts = [0, *store.ends[:-1].tolist()]
        found |= {known.decode(store.read(a, b - 1).tolist()) for a, b in zip(starts, store.ends.tolist(), strict=True)}
    assert found == written
    told = json.loads((run / "export/code/sources.jsonl").read_text())
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert metrics["code/documents"] + metrics["code/held_out_documents"] == len(rows) == 164
    assert metrics["a/documents"] + metrics["a/held_out_documents"] == len(texts())
    assert metrics["tokens"] == metrics["a/tokens"] + metrics["code/tokens"] == code.tokens + metrics["a/tokens"]
    assert metrics["a/rejected"] == 7
    assert metrics["code/shards"] > 2
    assert metrics["bytes_per_token"] > 1
    said = capfd.readouterr().err
    assert "a: 1 rows set aside: not valid JSON" in said
    assert f"{metrics['code/tokens']:,} tokens" in said
    assert main(command) == 0
    assert "finished before" in capfd.readouterr().err


def test_processes_make_no_other_run(here: Path) -> None:
    hashes = {settings_hash(compose_config([*TEXT, f"store.workers={workers}"])) for workers in ("null", "1", "7")}
    assert len(hashes) == 1
    assert settings_hash(compose_config([*TEXT, "store.eos=false", "store.bos=true"])) not in hashes


MISTAKES = {
    "no source": (["stage=tokenize", "tokenizer.path=tokenizer"], ["data.sources={}", "data.sources.NAME.path=FILE"]),
    "no tokenizer": (TEXT[:2], ["tokenizer.path"]),
    "a hub id": ([*TEXT, "data.sources.b.path=hub:org/name"], ["data.sources.b.path=hub:org/name", "hf download"]),
    "a name that is no folder": (
        ["stage=tokenize", "data.sources={a b: {path: a.jsonl}}", TEXT[2]],
        ["a b", "letters"],
    ),
    "nothing between documents": ([*TEXT, "store.eos=false"], ["store.eos=false", "bos=true"]),
    "a missing file": (["stage=tokenize", "data.sources.a.path=b.jsonl", TEXT[2]], ["data.sources.a.path=b.jsonl"]),
    "another kind of file": (["stage=tokenize", "data.sources.a.path=a.doc", TEXT[2]], ["a.doc", ".txt", "a folder"]),
    "a suffix of rows": ([*TEXT, "data.text_suffixes=[.json]"], ["data.text_suffixes", ".json"]),
    "other columns": ([*TEXT, "data.fields=[content]"], ["data.sources.a.path=a.jsonl", "no field 'content'", "text"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_and_status_2(case: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "a.doc").write_text("x")
    command, words = MISTAKES[case]
    assert main([*command, "store.workers=1"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("dsm: ")]
    for word in words:
        assert word in line
