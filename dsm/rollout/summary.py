"""What a store of rollouts comes to: accuracy, pass@k, rewards, lengths, and how often each prompt is solved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from dsm.evaluation.metrics import pass_at_k


class Summary:
    """Adds up rows of `RolloutStore.rows`, one by one; a row is judged by its rule, or else by a reward above 0."""

    def __init__(self) -> None:
        self._verdicts: dict[str, list[bool]] = defaultdict(list)
        self._parts: dict[str, list[float]] = defaultdict(list)
        self._rewards: list[float] = []
        self._lengths: list[int] = []
        self._truncated = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """One rollout."""
        self._lengths.append(row["tokens"])
        self._truncated += row["finish_reason"] == "length"
        for name, value in row["rewards"].items():
            if value is not None:
                self._parts[name].append(value)
        if row["reward"] is not None:
            self._rewards.append(row["reward"])
        if row["correct"] is not None or row["reward"] is not None:
            self._verdicts[row["id"]].append(bool(row["correct"]) if row["correct"] is not None else row["reward"] > 0)

    def pass_rates(self) -> list[dict[str, Any]]:
        """Of each prompt: its id, the share of its answers that are correct, how many there are."""
        return [
            {"id": name, "pass_rate": sum(verdicts) / len(verdicts), "n": len(verdicts)}
            for name, verdicts in self._verdicts.items()
        ]

    def metrics(self) -> dict[str, float]:
        """Means over rollouts; pass@k over prompts, for k = 1, 2, 4, ... up to the fewest answers that one has."""
        rollouts = len(self._lengths)
        found: dict[str, float] = {"rollout/unscored": float(rollouts - len(self._rewards))}
        if self._rewards:
            found["reward/mean"] = _mean(self._rewards)
        found |= {f"reward/{name}": _mean(values) for name, values in self._parts.items()}
        groups = list(self._verdicts.values())
        if groups:
            found["rollout/accuracy"] = sum(map(sum, groups)) / sum(map(len, groups))
            fewest = min(map(len, groups))
            ks = sorted({2**i for i in range(fewest.bit_length())} | {fewest})
            for k in ks:
                found[f"rollout/pass@{k}"] = _mean([pass_at_k(len(group), sum(group), k) for group in groups])
            found["rollout/never_solved"] = _mean([not any(group) for group in groups])
            found["rollout/always_solved"] = _mean([all(group) for group in groups])
        return found | {
            "rollout/length": _mean(self._lengths),
            "rollout/length_max": float(max(self._lengths)),
            "rollout/truncated": self._truncated / rollouts,
        }


def _mean(values: list[Any]) -> float:
    return float(sum(values) / len(values))
