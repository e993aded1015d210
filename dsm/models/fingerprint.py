"""Which weights lie in a folder: what results that depend on a model are known by."""

from __future__ import annotations

import hashlib
from pathlib import Path


def model_fingerprint(path: str) -> str:
    """SHA-256 (hex) that tells weights apart: names, sizes and both ends of every file with weights, and the config.

    Both ends, a megabyte each, since reading all of a large model would take minutes; a model of the hub is its name.
    """
    folder = Path(path).expanduser()
    digest = hashlib.sha256(path.encode() if not folder.is_dir() else b"")
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]) if folder.is_dir() else []:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as content:
            digest.update(content.read(1 << 20))
            content.seek(max(size - (1 << 20), 0))
            digest.update(content.read())
    return digest.hexdigest()
