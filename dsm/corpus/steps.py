"""The protocol of every step of mining: a pure function over shards whose results are known by their content.

A task is a shard: some input files, one folder of output. Its key is a hash of the step's name, version and settings
and of the content of its inputs. A task whose folder holds that key, and files with the checksums that stand beside it,
was finished before; any other is done anew. So a step may be killed at any instant and go on with other workers, other
tasks and other settings: what is left in the end is what an undisturbed run leaves, byte for byte (but for `seconds`
and `seen` in done.json, which tell of the run).

    <folder>/<task>/done.json + files     one whole task: written as <task>.part-*, flushed, then renamed
    <folder>/manifest.json                all of them; there is none while something is being done anew

Nothing else is trusted: not the names of files, not the number of tasks, not who did them.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import xxhash

from dsm.corpus.executors import Executor
from dsm.corpus.progress import Progress
from dsm.errors import UserError
from dsm.files import atomic_write_text, flush

log = logging.getLogger("dsm")

DONE, MANIFEST = "done.json", "manifest.json"
_PART, _OLD = ".part-", ".old-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,199}")
_CHUNK_BYTES = 1 << 20
_THREADS = 4


@dataclass(frozen=True)
class Task:
    """One shard of a step.

    Attributes:
        name: of its folder; says what the task is, for it is part of the key (the inputs' folders are not).
        inputs: files whose content is part of the key.
    """

    name: str
    inputs: tuple[Path, ...]


class Step(Protocol):
    """What is done to each shard. It is sent to other processes, so it must pickle and stay small."""

    @property
    def name(self) -> str:
        """As in 'pages' or 'round-1/score'."""
        ...

    @property
    def version(self) -> str:
        """Raised by hand when the results of the code change."""
        ...

    def settings(self) -> Mapping[str, Any]:
        """All else that the results depend on, as JSON."""
        ...

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write files into `out`, a new folder; a pure function of the settings and the contents of the inputs.

        Returns:
            The balance: 'in', and where each of those went ('out', 'broken', ...), which must add up to it. Names with
            a leading underscore are facts beside the balance.
        """
        ...


@dataclass(frozen=True)
class Shard:
    """A finished task.

    Attributes:
        name: the task's.
        folder: where its files lie.
        key: what it was made from.
        counts: what `Step.run` returned.
        files: name -> (bytes, xxh3_128).
        seconds: that it took.
    """

    name: str
    folder: Path
    key: str
    counts: dict[str, int]
    files: dict[str, tuple[int, str]]
    seconds: float

    def path(self, name: str) -> Path:
        """One of its files."""
        return self.folder / name


@dataclass(frozen=True)
class Manifest:
    """A finished step: its shards in the order of the tasks."""

    step: str
    folder: Path
    shards: dict[str, Shard]

    def files(self, name: str) -> list[Path]:
        """The file of this name of every shard that has one, in the order of the tasks."""
        return [shard.folder / name for shard in self.shards.values() if name in shard.files]

    def total(self) -> Counter[str]:
        """The counts of all shards together."""
        total: Counter[str] = Counter()
        for shard in self.shards.values():
            total.update(shard.counts)
        return total

    @property
    def seconds(self) -> float:
        """Of work, all shards together, whenever it was done."""
        return sum(shard.seconds for shard in self.shards.values())

    @property
    def hash(self) -> str:
        """Of all that was made: names and contents."""
        return _hash([[shard.name, shard.files] for shard in self.shards.values()])

    def check(self) -> None:
        """Compare every file with its checksum; `run_step` has done so, who only loads a manifest may want to.

        Raises:
            UserError: one is not what was written.
        """
        for shard in self.shards.values():
            if not _is_intact(shard):
                raise UserError(f"{shard.folder}: is not what step {self.step} wrote there; run that step again")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """The manifest of a finished step.

        Raises:
            UserError: the step is not finished there.
        """
        try:
            told = json.loads((folder / MANIFEST).read_text())
            shards = [_read_done(folder / name) for name in told["shards"]]
        except (OSError, ValueError, KeyError, TypeError):
            shards = [None]
        if None in shards:
            raise UserError(f"{folder}: holds no finished step; run the same command again to finish it")
        return cls(told["step"], folder, {shard.name: shard for shard in shards if shard is not None})


def run_step(step: Step, tasks: Iterable[Task], folder: Path, executor: Executor) -> Manifest:
    """Do the tasks that are not done, remove what is not wanted any more.

    Args:
        step: what to do.
        tasks: all of it; order matters for the manifest alone.
        folder: of this step, RUN/steps/<step.name>. One run at a time may work in it.
        executor: who does the work.

    Raises:
        UserError: a task is wrong about its input or its process died; what the others did is kept.
        TaskError: a task broke.
    """
    tasks = list(tasks)
    _check_names(step, tasks)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing and reading leave the interpreter to others
        shards = dict(zip(tasks, pool.map(functools.partial(_finished, step, folder), tasks), strict=True))
    todo = [task for task, shard in shards.items() if shard is None]
    unwanted = [path.parent for path in folder.glob(f"*/{DONE}") if path.parent.name not in {t.name for t in tasks}]
    if todo or unwanted:
        (folder / MANIFEST).unlink(missing_ok=True)
    for path in unwanted:
        shutil.rmtree(path)
    if len(todo) < len(tasks):
        log.info(
            "%s: %s of %s shards were finished before", step.name, f"{len(tasks) - len(todo):,}", f"{len(tasks):,}"
        )
    with Progress(step.name, len(todo)) as progress:

        def on_done(task: Task, shard: Shard) -> None:
            shards[task] = shard
            progress.add(shard.counts.get("in", 0))

        if todo:
            executor.map(functools.partial(perform, step, folder), todo, on_done)
    finished = {task.name: shard for task, shard in shards.items() if shard is not None}
    if len(finished) < len(tasks):  # an executor that forgets would otherwise lose pages in silence
        raise RuntimeError(f"{step.name}: the executor returned without {len(tasks) - len(finished)} tasks")
    manifest = Manifest(step.name, folder, finished)
    _write_manifest(step, manifest)
    return manifest


def perform(step: Step, folder: Path, task: Task) -> Shard:
    """Do one task, in whatever process: write aside, flush, rename.

    Raises:
        UserError: an input cannot be read or changes meanwhile.
        RuntimeError: the counts do not add up.
    """
    began = time.monotonic()
    inputs = [_Input.read(path) for path in task.inputs]
    part = Path(tempfile.mkdtemp(prefix=f"{task.name}{_PART}", dir=folder))
    part.chmod(0o755)
    try:
        counts = step.run(task, part)
        _check_balance(step, task, counts)
        for before in inputs:
            if before.stamp is not None and before.stamp != _stamp(before.path):
                raise UserError(f"{before.path} changed while it was read; run again once it is complete")
        for parent, _, names in os.walk(part):
            for name in names:
                flush(Path(parent, name))
            flush(Path(parent))
        files = {name: (size, content) for name in _names(part) for size, content in [_content_of(part / name)]}
        key = _key(step, task, inputs)
        shard = Shard(task.name, folder / task.name, key, dict(counts), files, round(time.monotonic() - began, 3))
        done = {"key": key, "counts": shard.counts, "files": files, "seconds": shard.seconds}
        done["seen"] = {str(read.path): [*read.stamp, read.content] for read in inputs if read.stamp is not None}
        atomic_write_text(part / DONE, json.dumps(done, indent=1) + "\n")
        _put_in_place(part, shard.folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return shard


# ---------------------------------------------------------------- what was finished


def _finished(step: Step, folder: Path, task: Task) -> Shard | None:
    """The shard as it lies there, if it is what the task would make now."""
    shard = _read_done(folder / task.name)
    if shard is None:
        return None
    seen = json.loads((shard.folder / DONE).read_text()).get("seen", {})
    if shard.key != _key(step, task, [_Input.read(path, seen) for path in task.inputs]):
        return None
    return shard if _is_intact(shard) else None


def _read_done(folder: Path) -> Shard | None:
    try:
        done = json.loads((folder / DONE).read_text())
        files = {name: (int(size), str(content)) for name, (size, content) in done["files"].items()}
        return Shard(folder.name, folder, done["key"], dict(done["counts"]), files, float(done["seconds"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_intact(shard: Shard) -> bool:
    """Do its files hold what was written?"""
    try:
        sizes = {name: (shard.folder / name).stat().st_size for name in _names(shard.folder) if name != DONE}
        if sizes != {name: size for name, (size, _) in shard.files.items()}:
            return False
        return all(_content_of(shard.folder / name) == told for name, told in shard.files.items())
    except OSError:
        return False


@dataclass(frozen=True)
class _Input:
    """A file that a task reads: its content's hash and, unless a step wrote it, what it looked like then."""

    path: Path
    content: str
    stamp: tuple[int, int] | None

    @classmethod
    def read(cls, path: Path, seen: Mapping[str, Sequence[Any]] | None = None) -> _Input:
        """A step's own files are known by their done.json; others are hashed, unless they look as in `seen`."""
        beside = _read_done(path.parent)
        if beside is not None and path.name in beside.files:
            return cls(path, beside.files[path.name][1], None)
        try:
            stamp = _stamp(path)
            told = (seen or {}).get(str(path))
            if told is not None and tuple(told[:2]) == stamp:
                return cls(path, str(told[2]), stamp)
            return cls(path, _content_of(path)[1], stamp)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror})") from error


def _key(step: Step, task: Task, inputs: Sequence[_Input]) -> str:
    """The hash of all that a task's result depends on."""
    contents = [[read.path.name, read.content] for read in inputs]
    return _hash([step.name, step.version, step.settings(), task.name, contents])


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _content_of(path: Path) -> tuple[int, str]:
    """Bytes and hash of a file."""
    digest, size = xxhash.xxh3_128(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", errors="surrogatepass"))


def _names(folder: Path) -> list[str]:
    """Files below a folder, in the order of their names."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------- order in the folder


def _put_in_place(part: Path, target: Path) -> None:
    """A folder takes the place of an older one; killed in between, there is none, which only costs time."""
    while True:
        try:
            part.rename(target)
            break
        except OSError:  # not empty
            if not target.exists():
                raise
            old = Path(tempfile.mkdtemp(prefix=f"{target.name}{_OLD}", dir=target.parent))
            target.rename(old)
            shutil.rmtree(old, ignore_errors=True)
    flush(target.parent)


def _remove_leftovers(folder: Path) -> None:
    """What killed workers left."""
    for path in folder.iterdir():
        if _PART in path.name or _OLD in path.name:
            shutil.rmtree(path, ignore_errors=True)


def _write_manifest(step: Step, manifest: Manifest) -> None:
    shards = {
        shard.name: {"key": shard.key, "counts": shard.counts, "files": shard.files}
        for shard in manifest.shards.values()
    }
    told = {"step": step.name, "version": step.version, "settings": step.settings(), "hash": manifest.hash}
    text = json.dumps(told | {"total": manifest.total(), "shards": shards}, indent=1, ensure_ascii=False) + "\n"
    path = manifest.folder / MANIFEST
    if not path.is_file() or path.read_text() != text:
        atomic_write_text(path, text)


def _check_names(step: Step, tasks: Sequence[Task]) -> None:
    """Raises ValueError: a bug of whoever made the tasks."""
    for name, count in Counter(task.name for task in tasks).items():
        if count > 1:
            raise ValueError(f"{step.name}: {count} tasks are called {name}")
        if not _NAME.fullmatch(name) or _PART in name or _OLD in name:
            raise ValueError(f"{step.name}: {name!r} is no name of a folder of a task")


def _check_balance(step: Step, task: Task, counts: Mapping[str, int]) -> None:
    went = sum(count for name, count in counts.items() if name != "in" and not name.startswith("_"))
    if went != counts.get("in", 0):
        raise RuntimeError(
            f"{step.name}: {task.name} does not balance: in={counts.get('in', 0)}, went={went}: {counts}"
        )
