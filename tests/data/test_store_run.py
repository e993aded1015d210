"""Whole runs: the same bytes for any processes and any slices, killed anywhere; nothing lost, nothing doubled."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dsm.data.store import TokenStore, assembly, worker
from dsm.data.store.run import TokeniseRun
from dsm.data.store.writer import AppendedFile
from dsm.errors import UserError
from tests.data.store_lab import (
    BAD,
    FORMS,
    LINES,
    MIXED,
    all_files,
    encoding,
    noted,
    run_inline,
    settings,
    source_of,
    texts,
    tokenizer,
    write_folder,
)

ROOT = Path(__file__).resolve().parents[2]


def documents_of(store: TokenStore) -> list[str]:
    """The texts back, their end tokens cut off."""
    starts = [0, *store.ends[:-1].tolist()]
    tokens = [store.read(start, end).tolist() for start, end in zip(starts, store.ends.tolist(), strict=True)]
    assert {ids[-1] for ids in tokens} == {tokenizer().eos_token_id}
    return [tokenizer().decode(ids[:-1]) for ids in tokens]


def held_out_of(folder: Path) -> list[str]:
    path = TokenStore.open(folder).validation
    return documents_of(TokenStore.open(path)) if path else []


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "texts"
    write_folder(folder)
    return folder


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every byte of the store of that corpus, made without processes and without a stop."""
    folder = tmp_path_factory.mktemp("made")
    run_inline(source_of(corpus), folder)
    return all_files(folder / "export")


def test_a_store_holds_every_document_once_in_the_order_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(MIXED)
    source = source_of(tmp_path / "a.jsonl")
    manifest = run_inline(source, tmp_path, settings(fraction=0.0))
    store = TokenStore.open(tmp_path / "export" / "a", vocab_size=len(tokenizer()))
    store.verify()
    assert documents_of(store) == texts()
    assert (store.validation, store.tokenizer_hash) == (None, noted().fingerprint)
    assert manifest.text_bytes == sum(len(text.encode()) for text in texts())
    assert manifest.rejected == {
        "field 'text' is a number, not text": 1,
        "not valid JSON": 1,
        "empty": 1,
        "not valid Unicode": 1,
        "a row must be a JSON object, this is a list": 1,
        "no field 'text'": 1,
        "not valid UTF-8": 1,
    }
    lines = [json.loads(line) for line in (tmp_path / "export/a/rejected.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 7
    for line in lines:
        path, _, number = line["location"].rpartition(":")
        assert path == str(tmp_path / "a.jsonl")
        beginning = MIXED.split(b"\n")[int(number) - 1].decode("utf-8", "replace").strip()[:8]
        assert beginning.replace('":"', '": "').startswith(line["raw"][:8].replace('":"', '": "')[: len(beginning)])
    told = json.loads((tmp_path / "export/a/sources.jsonl").read_text())
    assert told == {"file": "a.jsonl", "bytes": len(MIXED), "sha256": hashlib.sha256(MIXED).hexdigest()}


def test_every_form_of_the_same_rows_makes_the_same_tokens(tmp_path: Path) -> None:
    fingerprints = {}
    for form in ("a.jsonl", "no_newline_at_end.jsonl", "bom.jsonl", "a.jsonl.gz", "a.jsonl.zst", "lines.json"):
        folder = tmp_path / form
        folder.mkdir()
        FORMS[form](folder / form)
        fingerprints[form] = run_inline(source_of(folder / form), folder).fingerprint
    assert len(set(fingerprints.values())) == 1


@pytest.mark.parametrize("slice_bytes", [100, 10_000, 1 << 20])
def test_slices_do_not_show_in_the_result(
    slice_bytes: int, corpus: Path, made: dict[str, bytes], tmp_path: Path
) -> None:
    run_inline(source_of(corpus, slice_bytes), tmp_path)
    assert all_files(tmp_path / "export") == made


def test_the_number_of_processes_does_not_show_in_the_result(
    corpus: Path, made: dict[str, bytes], tmp_path: Path
) -> None:
    run = TokeniseRun({"a": source_of(corpus)}, encoding(), noted(), settings(workers=3))
    assert run.workers == 3
    run.run(tmp_path / "work", tmp_path / "export")
    assert all_files(tmp_path / "export") == made
    assert not (tmp_path / "work").exists()


# ---------------------------------------------------------------- held out


def test_held_out_are_whole_texts_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(LINES * 3))
    seen = []
    for fraction, most in ((0.3, 1000), (0.3, 12), (0.3, 2), (0.0, 5)):
        folder = tmp_path / f"{fraction}-{most}"
        run_inline(source_of(tmp_path / "a.jsonl"), folder, settings(fraction=fraction, most=most))
        train, held = documents_of(TokenStore.open(folder / "export/a")), held_out_of(folder / "export/a")
        assert Counter(train) + Counter(held) == Counter(texts() * 3)
        assert not set(train) & set(held)
        assert len(held) <= most
        seen.append(set(held))
    assert 30 < len(seen[0]) * 3 < 80
    assert seen[0] > seen[1]  # the smaller choice lies in the larger
    assert len(seen[1]) == 4
    assert seen[2] == seen[3] == set()  # no text has so few copies


def test_equal_texts_of_different_sources_fall_on_the_same_side(tmp_path: Path) -> None:
    sides = []
    for name, lines in (("a", LINES), ("b", LINES[::-1][:40])):
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(lines))
        run_inline(source_of(tmp_path / f"{name}.jsonl"), tmp_path / name, settings(fraction=0.3))
        folder = tmp_path / name / "export/a"
        sides.append((set(documents_of(TokenStore.open(folder))), set(held_out_of(folder))))
    assert sides[1][1]
    assert sides[1][0] <= sides[0][0]
    assert sides[1][1] <= sides[0][1]
    run_inline(source_of(tmp_path / "a.jsonl"), tmp_path / "seed", settings(fraction=0.3), seed=1)
    assert set(held_out_of(tmp_path / "seed/export/a")) != sides[0][1]


# ---------------------------------------------------------------- killed anywhere


def die_at(moment: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that kills itself at the n-th instant at which the disk changes; did it come that far?"""
    child = os.fork()
    if child == 0:
        left = [moment]

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return call

        os.fsync, os.unlink, os.rmdir = counted(os.fsync), counted(os.unlink), counted(os.rmdir)
        Path.replace, Path.rename = counted(Path.replace), counted(Path.rename)  # type: ignore[method-assign]
        AppendedFile.append = counted(AppendedFile.append)  # type: ignore[method-assign]
        AppendedFile.__init__ = counted(AppendedFile.__init__)  # type: ignore[method-assign]
        try:
            action()
        except BaseException:
            os._exit(3)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


EVERY = 11  # with 1, every instant: a minute


def test_killed_at_any_instant_the_next_run_makes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join([*LINES[:6], *BAD, *LINES[6:12]]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(LINES[5:9]), mtime=0))
    source, config = source_of(tmp_path, 1500), settings(fraction=0.3, shard_tokens=150)
    folder, moment = tmp_path / "b", 0
    run_inline(source, tmp_path / "made", config)
    made = all_files(tmp_path / "made")
    assert {"export/a/00002.ds", "export/a/rejected.jsonl", "export/a/validation/00000.ds"} < set(made)
    monkeypatch.setattr(assembly, "COMMIT_S", 0.0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # kill -9 leaves what the kernel has
    while die_at(moment, lambda: run_inline(source, folder, config)):
        if moment % 2:
            die_at(moment // 2, lambda: run_inline(source, folder, config))
        run_inline(source, folder, config)
        assert all_files(folder) == made
        shutil.rmtree(folder)
        moment += EVERY
    assert all_files(folder) == made
    assert moment > 80


def test_a_run_goes_on_where_it_stood(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "COMMIT_S", 0.0)
    source = source_of(corpus)
    before = []
    add = assembly.Assembly.add

    def stop(self: assembly.Assembly, part: worker.Part) -> None:
        if len(before) == 6:
            raise KeyboardInterrupt
        before.append(part.slice)
        add(self, part)

    monkeypatch.setattr(assembly.Assembly, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        run_inline(source, tmp_path)
    after = []
    monkeypatch.setattr(assembly.Assembly, "add", lambda self, part: (after.append(part.slice), add(self, part)))
    run_inline(source, tmp_path)
    assert (after[0].file, after[0].number) == before[-1].next


def test_changed_input_or_settings_start_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "COMMIT_S", 0.0)
    path = tmp_path / "a.jsonl"
    path.write_bytes(MIXED)
    assert die_at(80, lambda: run_inline(source_of(path), tmp_path / "b"))
    assert (tmp_path / "b/work/a/progress.json").is_file()
    path.write_bytes(b"".join(LINES[::-1]))
    run_inline(source_of(path), tmp_path / "b")
    run_inline(source_of(path), tmp_path / "c")
    assert all_files(tmp_path / "b") == all_files(tmp_path / "c")


def test_input_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(MIXED)
    source = source_of(path)
    path.write_bytes(MIXED + LINES[0])
    with pytest.raises(UserError, match=r"a\.jsonl changed while it was read"):
        run_inline(source, tmp_path)
    run_inline(source_of(path), tmp_path)


# ---------------------------------------------------------------- processes that die


class Murder(TokeniseRun):
    """Kills one of its processes in the middle of its work."""

    @contextmanager
    def _pool(self, sources: Any) -> Iterator[Any]:
        with super()._pool(sources) as self.pool:
            yield self.pool

    def _oldest(self, waiting: Any) -> worker.Part:
        part = super()._oldest(waiting)
        if part.slice.file == 2 and part.slice.number == 0:
            os.kill(next(iter(self.pool._processes)), signal.SIGKILL)
        return part


def test_a_killed_process_is_named_and_the_work_is_kept(
    corpus: Path, made: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "COMMIT_S", 0.0)
    run = Murder({"a": source_of(corpus)}, encoding(), noted(), settings(workers=2))
    with pytest.raises(UserError, match=r"store\.workers=2: one of them was killed"):
        run.run(tmp_path / "work", tmp_path / "export")
    assert (tmp_path / "work/a/progress.json").is_file()
    run_inline(source_of(corpus), tmp_path)
    assert all_files(tmp_path / "export") == made


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_processes_end_with_the_run_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(MIXED * 40)
    run = TokeniseRun({"a": source_of(tmp_path / "a.jsonl", 10_000)}, encoding(), noted(), settings(workers=2))
    (tmp_path / "run.pickle").write_bytes(pickle.dumps(run))
    code = "import pickle, sys, pathlib as p; f = p.Path(sys.argv[1]); pickle.loads((f / 'run.pickle').read_bytes())"
    command = [sys.executable, "-c", f"{code}.run(f / 'work', f / 'export')", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_until(lambda: process.poll() is not None or (tmp_path / "work/a/store/00001.ds").is_file())
        workers = children(process.pid)
        assert len(workers) >= 2
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not any(alive(pid) for pid in workers))
    manifest = run_inline(source_of(tmp_path / "a.jsonl", 10_000), tmp_path)
    validation = TokenStore.open(tmp_path / "export/a/validation")
    assert manifest.documents + validation.documents == 40 * len(texts())


def wait_until(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.02)


def stat_of(pid: int) -> list[str]:
    """State, parent, ...; nothing of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    return stat_of(pid)[:1] not in ([], ["Z"])


def children(parent: int) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if stat_of(pid)[1:2] == [str(parent)]]


def test_workers_import_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, dsm.data.store.worker; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


# ---------------------------------------------------------------- mistakes


def test_rows_without_the_field_are_noticed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(b'{"content": "x"}\n' for _ in range(3000)))
    with pytest.raises(
        UserError, match=r"none of its first 3,000 rows makes a document \(3,000: no field 'text'\); one of"
    ):
        run_inline(source_of(tmp_path / "a.jsonl", 1 << 20), tmp_path)
    monkeypatch.setattr(assembly, "_HOPELESS_ROWS", 5)
    with pytest.raises(UserError, match=r'none of its first 6 rows .*one of them: \{"content": "x"\}'):
        run_inline(source_of(tmp_path / "a.jsonl", 100), tmp_path)


def test_a_source_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n\n")
    with pytest.raises(UserError, match=r"data\.sources\.a\.path=.*a\.jsonl: none of its first 0 rows .*it has none"):
        run_inline(source_of(tmp_path / "a.jsonl"), tmp_path)
