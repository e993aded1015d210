"""Rows from wherever they lie: files, folders, saved data sets or the hub.

A row that cannot be read is never lost and never stops the run: it comes out as `Rejected`, in its place, with the
reason. A source that cannot be read at all is the user's to fix and raises `UserError`. Nothing is downloaded unless
the path says `hub:`.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dsm.config.base import HUB_PREFIX
from dsm.errors import UserError

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet")
RAW_CHARS = 200
_CHUNK_BYTES = 1 << 20
_BATCH_ROWS = 1024
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """One row as read. `location` is `file:line`, counted from 1 (`file:row` where there are no lines)."""

    row: dict[str, Any]
    location: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """One row set aside: where it was, why, and its first 200 characters."""

    location: str
    reason: str
    raw: str


class DamagedStreamError(Exception):
    """A compressed stream that breaks off; `partial` is the unfinished line before the break."""

    def __init__(self, reason: str, partial: bytes = b"") -> None:
        super().__init__(reason)
        self.reason, self.partial = reason, partial


def read_records(
    path: str, *, split: str | None = None, key: str = "path", allow_nan: bool = False
) -> Iterator[Record | Rejected]:
    """Stream the rows of `path` in a fixed order (files sorted by name, rows as they lie).

    Args:
        path: a file with one of `SUFFIXES`, a folder of such files, a `datasets.save_to_disk` folder, or
            `hub:org/name[:config]`.
        split: the split of a hub or saved data set (needless when it has only one); in a folder of files, it keeps
            those with this word in their path, as `train-00000.parquet` or `train/a.jsonl`.
        key: the config key that errors name.
        allow_nan: whether a JSON row may hold NaN or an infinite number, which JSON itself has no word for.

    Raises:
        UserError: if the source cannot be read at all: at the call for a path that is missing or of an unsupported
            kind, at the first row for what only opening shows (permissions, a corrupt file), at the end if there was
            no row.
    """
    name = f"{key}={path}"
    if path.startswith(HUB_PREFIX) or _is_saved_dataset(Path(path)):
        return _non_empty(_dataset_rows(path, split, name), name)
    files = data_files(Path(path), split, name)
    return _non_empty((row for file in files for row in file_rows(file, name, allow_nan)), name)


def content_fingerprint(path: str, *, split: str | None = None, key: str = "path") -> str:
    """SHA-256 (hex) of what `read_records` would read: names relative to `path` and bytes; it guards resume.

    For a hub id it is the fingerprint that `datasets` derives from the revision, config and split.
    """
    name, root = f"{key}={path}", Path(path)
    digest = hashlib.sha256()
    if path.startswith(HUB_PREFIX):
        digest.update(_load_dataset(path, split, name)._fingerprint.encode())
        return digest.hexdigest()
    if _is_saved_dataset(root):
        files = sorted(p for p in root.rglob("*") if p.is_file())
    else:
        files = data_files(root, split, name)
    try:
        for file in files:
            relative = str(file.relative_to(root)) if root.is_dir() else file.name
            digest.update(f"{len(relative)}:{relative}:{file.stat().st_size}:".encode())
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
    except OSError as error:
        raise UserError(f"{name}: {error.filename} cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def raw_row(row: Any) -> str:
    """The beginning of a row for `Rejected.raw`, fit to be written to a file whatever the row holds."""
    text = json.dumps(row, ensure_ascii=False, default=str)[:RAW_CHARS]
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _non_empty(rows: Iterable[Record | Rejected], name: str) -> Iterator[Record | Rejected]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise UserError(f"{name}: holds no rows")


def data_files(path: Path, split: str | None, name: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """`path`, or the files of that folder in the order of their names, whose names end in one of `suffixes`.

    Raises:
        UserError: there are none; `name` is how the error begins.
    """
    others = ", a datasets.save_to_disk folder, or hub:org/name" if suffixes == SUFFIXES else ""
    allowed = f"allowed are {', '.join(suffixes)}, a folder of them{others}"
    if not os.path.exists(path):  # unlike Path.exists it answers False, not PermissionError, below a closed folder
        raise UserError(f"{name}: does not exist{_hint(path)}; {allowed}")
    if path.is_dir():
        files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.name.endswith(suffixes) and p.name[0] != "."]
        if not files:
            raise UserError(f"{name}: the folder holds no data files; {allowed}")
        if split is None:
            return files
        word = re.compile(rf"(^|[-_./]){re.escape(split)}([-_./]|$)")
        if not (chosen := [p for p in files if word.search(p.relative_to(path).as_posix())]):
            found = ", ".join(p.relative_to(path).as_posix() for p in files[:5])
            raise UserError(f"{name}: no file belongs to split={split}; the folder holds {found}")
        return chosen
    if not path.name.endswith(suffixes):
        raise UserError(f"{name}: unsupported kind of file; {allowed}")
    if split is not None:
        raise UserError(f"{name}: split={split} does not apply to a single file; leave split out")
    return [path]


def _hint(path: Path) -> str:
    """A guess at what a path that does not exist was meant to be."""
    if not os.path.isdir(path.parent):
        is_hub_id = re.fullmatch(r"[\w-]+/[\w.-]+", str(path))
        return f" (to download it from the hub write hub:{path})" if is_hub_id else f" (nor does {path.parent})"
    siblings = [p.name for p in path.parent.iterdir()]
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""


def file_rows(file: Path, name: str, allow_nan: bool) -> Iterator[Record | Rejected]:
    """The rows of one file with one of `SUFFIXES`, which may be none; `name` is how its `UserError` begins."""
    try:
        if file.suffix == ".parquet":
            yield from _parquet_rows(file, name)
        else:
            yield from (_json_rows if file.suffix == ".json" else _jsonl_rows)(file, name, allow_nan)
    except OSError as error:
        raise UserError(f"{name}: {file} cannot be read ({error.strerror or _first_line(error)})") from error


def _jsonl_rows(file: Path, name: str, allow_nan: bool) -> Iterator[Record | Rejected]:
    number = 0
    try:
        for number, line in enumerate(_lines(file_chunks(file)), start=1):
            if number == 1:
                if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise UserError(f"{name}: {file} is UTF-16; save it as UTF-8")
                line = line.removeprefix(_BOM)
            if line.strip():
                yield parse_line(line, f"{file}:{number}", allow_nan)
    except DamagedStreamError as damage:
        if number == 0 and not damage.partial:
            raise UserError(f"{name}: {file} {damage.reason}") from damage
        raw = damage.partial.decode("utf-8", errors="replace")[:RAW_CHARS]
        yield Rejected(f"{file}:{number + 1}", f"{damage.reason}; what follows is lost", raw)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Split at LF only: U+2028 and the like may stand inside JSON strings."""
    tail = b""
    try:
        for chunk in chunks:
            *lines, tail = (tail + chunk).split(b"\n")
            yield from lines
    except DamagedStreamError as damage:
        damage.partial = tail
        raise
    if tail:
        yield tail


def file_chunks(file: Path) -> Iterator[bytes]:
    """`unpacked` of a whole file."""
    with file.open("rb") as raw:
        yield from unpacked(raw, file.suffix)


def unpacked(raw: BinaryIO, suffix: str) -> Iterator[bytes]:
    """A stream's bytes in pieces, unpacked if `suffix` is .gz or .zst.

    Raises:
        DamagedStreamError: the packed stream breaks off.
    """
    if suffix == ".gz":
        stream = gzip.GzipFile(fileobj=raw)
        try:
            while chunk := stream.read1(_CHUNK_BYTES):
                yield chunk
        except EOFError as error:
            raise DamagedStreamError("is a truncated gzip stream") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DamagedStreamError(f"is not valid gzip ({_first_line(error)})") from error
    elif suffix == ".zst":
        yield from _zstd_chunks(iter(lambda: raw.read(_CHUNK_BYTES), b""))
    else:
        while chunk := raw.read(_CHUNK_BYTES):
            yield chunk


def _zstd_chunks(compressed: Iterator[bytes]) -> Iterator[bytes]:
    """Frame by frame, because zstandard's own stream reader takes a truncated file for a complete one."""
    import zstandard

    frame = None
    try:
        for data in compressed:
            while data:
                frame = frame or zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
                if chunk := frame.decompress(data):
                    yield chunk
                data = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise DamagedStreamError(f"is not valid zstd ({_first_line(error)})") from error
    if frame is not None:
        raise DamagedStreamError("is a truncated zstd stream")


def parse_line(line: bytes, location: str, allow_nan: bool) -> Record | Rejected:
    """The row that one line of JSON holds."""
    raw = line.decode("utf-8", errors="replace").strip()[:RAW_CHARS]
    try:
        return _checked(json.loads(line.decode("utf-8")), location, raw, allow_nan)
    except UnicodeDecodeError as error:
        return Rejected(location, f"not valid UTF-8 (byte {error.start + 1} of the line)", raw)
    except json.JSONDecodeError as error:
        return Rejected(location, f"not valid JSON: {error.msg} (character {error.pos + 1} of the line)", raw)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets thousands deep
        return Rejected(location, f"not readable as JSON: {_first_line(error)}", raw)


def _checked(value: Any, location: str, raw: str, allow_nan: bool) -> Record | Rejected:
    if not isinstance(value, dict):
        return Rejected(location, f"a row must be a JSON object, this is a {type(value).__name__}", raw)
    if not allow_nan and _has_non_finite(value):
        return Rejected(location, "holds NaN or an infinite number", raw)
    return Record(value, location)


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return any(_has_non_finite(item) for item in value)


def _json_rows(file: Path, name: str, allow_nan: bool) -> Iterator[Record | Rejected]:
    """A `.json` file holds a list of rows; JSON lines under that name are common enough to be taken too."""
    data = file.read_bytes()
    if not data.strip():
        return
    try:
        rows = json.loads(data.removeprefix(_BOM).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: {file} is not valid UTF-8 (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            yield from _jsonl_rows(file, name, allow_nan)
            return
        raise UserError(f"{name}: {file} is not valid JSON: {error.msg} at line {error.lineno}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: {file} is not readable as JSON: {_first_line(error)}") from error
    if not isinstance(rows, list):
        raise UserError(f"{name}: {file} holds a JSON {type(rows).__name__}; a .json file must hold a list of objects")
    for number, row in enumerate(rows, start=1):
        yield _checked(row, f"{file}:{number}", raw_row(row), allow_nan)


def _parquet_rows(file: Path, name: str) -> Iterator[Record | Rejected]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, ValueError) as error:
        raise UserError(f"{name}: {file} is not a readable Parquet file ({_first_line(error)})") from error
    with table:
        first = 1
        for group in range(table.num_row_groups):
            rows, number = table.metadata.row_group(group).num_rows, first
            try:
                for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group]):
                    for row in batch.to_pylist():
                        yield Record(row, f"{file}:{number}")
                        number += 1
            except (pyarrow.ArrowException, OSError, ValueError) as error:
                lost = f"rows {number} to {first + rows - 1} are lost"
                yield Rejected(f"{file}:{number}", f"row group {group} is damaged, {lost} ({_first_line(error)})", "")
            first += rows


def _is_saved_dataset(path: Path) -> bool:
    has = {file: os.path.isfile(path / file) for file in ("dataset_dict.json", "state.json", "dataset_info.json")}
    return has["dataset_dict.json"] or (has["state.json"] and has["dataset_info.json"])


def _load_dataset(path: str, split: str | None, name: str) -> Any:
    """The one `datasets.Dataset` that `path` and `split` name."""
    import datasets

    try:
        if path.startswith(HUB_PREFIX):
            repository, _, config = path.removeprefix(HUB_PREFIX).partition(":")
            found = datasets.load_dataset(repository, config or None)
        else:
            found = datasets.load_from_disk(path)
    except Exception as error:  # datasets raises a dozen unrelated types for what users do
        raise UserError(f"{name}: cannot be loaded ({type(error).__name__}: {_first_line(error)})") from error
    if not isinstance(found, dict):
        if split is not None:
            raise UserError(f"{name}: split={split} does not apply, the saved data set has no splits; leave split out")
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        raise UserError(f"{name}: split={split} is not one of its splits; allowed are {', '.join(found)}")
    return found[split]


def _dataset_rows(path: str, split: str | None, name: str) -> Iterator[Record]:
    dataset = _load_dataset(path, split, name)
    where = path if split is None else f"{path}[{split}]"
    for number, row in enumerate(dataset, start=1):
        yield Record(row, f"{where}:{number}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
