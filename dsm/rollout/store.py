"""Rollouts on the disk: what offline methods learn from, what reward models are trained on, what a person can read.

A store is a folder of parts. Each part was written aside and renamed when it was whole, with numbers to be checked when
it is read: `arrays.npz` holds what counts tokens, `rollouts.jsonl` all else, a line a rollout. Parts of several ranks
meet in one folder without knowing of each other, and after a kill those that are there need not be made again. What the
rollouts depend on (`facts`) is written down with the first; rollouts of other facts are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.files import atomic_directory, atomic_write_text, clear_partial_files
from dsm.rollout.record import Prompt, Rollout

_FORMAT = 1  # raise it when what a part holds changes its meaning
_ARRAYS, _LINES, _PART, _MANIFEST = "arrays.npz", "rollouts.jsonl", "part.json", "manifest.json"
_SCALARS = ("prompt", "group", "sample", "temperature", "text", "finish_reason", "policy_version", "reward", "correct")


class RolloutStore:
    """One folder of rollouts.

    Attributes:
        folder: where they lie.
        facts: what they depend on, by name.
    """

    def __init__(self, folder: Path, facts: Mapping[str, str]) -> None:
        """Open the folder, or make it.

        Raises:
            UserError: it holds rollouts of other facts.
        """
        self.folder, self.facts = folder, dict(facts)
        if (folder / _MANIFEST).is_file():
            there = _manifest(folder, str(folder))["facts"]
            differing = sorted(key for key in there.keys() | self.facts if there.get(key) != self.facts.get(key))
            if differing:
                raise UserError(
                    f"{folder}: holds rollouts of another {', '.join(differing)}; they do not go together with new"
                    " ones: resume=never makes them anew, or remove that folder"
                )
            return
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / _MANIFEST, _text({"format": _FORMAT, "facts": self.facts, "complete": None}))

    @classmethod
    def open(cls, path: str, key: str) -> RolloutStore:
        """A store that is complete.

        Args:
            path: its folder, or that of a stage=rollouts run.
            key: the config key that errors name.

        Raises:
            UserError: there is none, or it was never completed.
        """
        folder, name = Path(path).expanduser(), f"{key}={path}"
        if not (folder / _MANIFEST).is_file():
            folder = folder / "rollouts"
        if not (folder / _MANIFEST).is_file():
            raise UserError(f"{name}: holds no rollouts; give the folder of a stage=rollouts run")
        manifest = _manifest(folder, name)
        store = cls(folder, manifest["facts"])
        if manifest["complete"] is None:
            raise UserError(f"{name}: its rollouts are not complete; run the command that makes them again")
        if manifest["complete"] != store._sums():
            raise UserError(f"{name}: parts are missing or were changed after it was completed; make it anew")
        return store

    # ------------------------------------------------------------ writing

    def clear(self) -> None:
        """Remove what killed writers have left; no other may be at work."""
        clear_partial_files(self.folder)

    def write(self, part: str, rollouts: Sequence[Rollout], prompts: Sequence[Prompt]) -> None:
        """Add a part, whole or not at all; one of the same name is replaced.

        Args:
            part: a name that sorts where it belongs.
            prompts: all that the rollouts answer; found by their number.
        """
        if not rollouts:
            raise ValueError(f"part {part} has no rollouts")
        asked = {prompt.number: prompt for prompt in prompts}
        with atomic_directory(self.folder / f"part-{part}") as aside:
            with (aside / _LINES).open("w", encoding="utf-8") as lines:
                lines.writelines(_line(rollout, asked[rollout.prompt]) for rollout in rollouts)
            np.savez(aside / _ARRAYS, **_arrays(rollouts))  # type: ignore[arg-type]  # its stub takes names for settings
            about = {
                "rollouts": len(rollouts),
                "groups": len({rollout.group for rollout in rollouts}),
                "tokens": sum(rollout.actions for rollout in rollouts),
                "sha256": {name: _sha256(aside / name) for name in (_ARRAYS, _LINES)},
            }
            (aside / _PART).write_text(_text(about))

    def complete(self) -> dict[str, int]:
        """Write down that nothing is to come any more; returns counts of parts, groups, rollouts and tokens."""
        manifest = {"format": _FORMAT, "facts": self.facts, "complete": self._sums()}
        atomic_write_text(self.folder / _MANIFEST, _text(manifest))
        return self.counts()

    # ------------------------------------------------------------ reading

    def parts(self) -> list[str]:
        """Names of the whole parts, sorted."""
        return sorted(path.name.removeprefix("part-") for path in self.folder.glob("part-*") if path.is_dir())

    def counts(self) -> dict[str, int]:
        """Parts, groups, rollouts, and tokens that the policy chose."""
        found = [self._about(part) for part in self.parts()]
        sums = {name: sum(about[name] for about in found) for name in ("groups", "rollouts", "tokens")}
        return {"parts": len(found), **sums}

    def read(self, parts: Sequence[str] | None = None) -> list[Rollout]:
        """The rollouts of these parts, or of all, in the order of parts.

        Raises:
            UserError: a part is damaged.
        """
        return [rollout for part in self.parts() if parts is None or part in parts for rollout in self._read(part)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """What a person would read of each rollout: id and question of its prompt, text, rewards, ..."""
        for part in self.parts():
            yield from self._rows(part)

    def _read(self, part: str) -> list[Rollout]:
        about, folder = self._about(part), self.folder / f"part-{part}"
        for name, digest in about["sha256"].items():
            if _sha256(folder / name) != digest:
                raise UserError(f"{folder}: {name} is damaged; remove this part and run again")
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            tokens = np.cumsum(arrays["lengths"])[:-1]
            cut = [np.split(arrays[name], tokens) for name in ("token_ids", "action_mask", "logprobs")]
            ends = np.split(arrays["step_ends"], np.cumsum(arrays["steps"])[:-1])
        return [
            Rollout(
                **{name: row[name] for name in _SCALARS},
                token_ids=ids.astype(np.int64),
                action_mask=mask,
                logprobs=logprobs,
                step_ends=step_ends,
                rewards=row["rewards"],
                step_rewards=None if row["step_rewards"] is None else np.asarray(row["step_rewards"], dtype=np.float64),
            )
            for row, ids, mask, logprobs, step_ends in zip(self._rows(part), *cut, ends, strict=True)
        ]

    def _rows(self, part: str) -> Iterator[dict[str, Any]]:
        with (self.folder / f"part-{part}" / _LINES).open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                yield json.loads(line)

    def _about(self, part: str) -> dict[str, Any]:
        about: dict[str, Any] = json.loads((self.folder / f"part-{part}" / _PART).read_text())
        return about

    def _sums(self) -> str:
        """SHA-256 (hex) over the checksums of all parts."""
        digests = [[part, self._about(part)["sha256"]] for part in self.parts()]
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _line(rollout: Rollout, prompt: Prompt) -> str:
    """All of a rollout but its tokens, with what it answers; it reads well from left to right."""
    row: dict[str, Any] = {"id": prompt.id, "question": prompt.question}
    if "gold" in prompt.columns:
        row["gold"] = prompt.columns["gold"]
    row |= {name: getattr(rollout, name) for name in _SCALARS} | {"rewards": dict(rollout.rewards)}
    row["step_rewards"] = None if rollout.step_rewards is None else rollout.step_rewards.tolist()
    row["tokens"] = rollout.actions
    line = json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
    return line.encode("utf-8", errors="replace").decode() + "\n"


def _arrays(rollouts: Sequence[Rollout]) -> dict[str, NDArray[np.generic]]:
    return {
        "lengths": np.array([len(rollout.token_ids) for rollout in rollouts], dtype=np.int64),
        "token_ids": np.concatenate([rollout.token_ids for rollout in rollouts]).astype(np.int32),
        "action_mask": np.concatenate([rollout.action_mask for rollout in rollouts]),
        "logprobs": np.concatenate([rollout.logprobs for rollout in rollouts]).astype(np.float32),
        "steps": np.array([len(rollout.step_ends) for rollout in rollouts], dtype=np.int64),
        "step_ends": np.concatenate([rollout.step_ends for rollout in rollouts]).astype(np.int64),
    }


def _manifest(folder: Path, name: str) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text())
        if manifest["format"] == _FORMAT and isinstance(manifest["facts"], dict):
            return dict(manifest)
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{name}: {_MANIFEST} is none of a store of rollouts of format {_FORMAT}; make it anew")


def _text(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
