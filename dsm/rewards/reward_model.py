"""A trained reward model that scores rollouts, many at once in packed batches.

It reads the very tokens that the policy wrote. Where the two have different tokenizers, question and answer are decoded
and tokenised anew, each on its own, with the reward model's own special tokens at both ends; a step's end goes to the
token that holds its last character. Special tokens inside a policy's chat form are lost on that way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from dsm.config.base import HUB_PREFIX
from dsm.config.model import ModelConfig
from dsm.config.reward_model import Reduction
from dsm.data.tokenizer import load_tokenizer
from dsm.errors import UserError
from dsm.models.reward import RewardModel, Supervision, build_reward_model, supervision_of
from dsm.ops.varlen import Varlen
from dsm.rollout.record import Rollout
from dsm.runtime import watch

Floats = NDArray[np.float64]


class Scores(NamedTuple):
    """Scores of n rollouts; NaN where one cannot be scored.

    Attributes:
        outcome: (n,) of each answer: the value at its last token, or the reduced scores of its steps.
        steps: of each the (K,) probabilities at the ends of its steps; None under outcome supervision.
    """

    outcome: Floats
    steps: list[Floats] | None


class _Read(NamedTuple):
    """What the model reads of a rollout, and where its values count."""

    input_ids: list[int]
    places: list[int]


class RewardScorer:
    """Scores rollouts.

    Args:
        source: a folder that `stage=reward` wrote (hub:org/name too), or a model, which is left where it is.
        supervision: what the values judge; auto = what the folder's class says.
        tokenizer: the policy's; None = the reward model's own.
        reduction: from the scores of steps to one of the solution.

    Raises:
        UserError: no such folder, not one of a reward model, or one that judges something else.
    """

    def __init__(
        self,
        source: str | RewardModel,
        supervision: Supervision | Literal["auto"] = "auto",
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        device: str | torch.device = "cpu",
        reduction: Reduction = "min",
        dtype: torch.dtype = torch.float32,
        tokens_per_microbatch: int = 8192,
    ) -> None:
        self._theirs, self._own = tokenizer, None
        if isinstance(source, RewardModel):
            self.model = source
        else:
            found = supervision_of(source)
            if found is None and (supervision == "auto" or not source.startswith(HUB_PREFIX)):
                raise UserError(
                    f"reward_model.path={source}: no reward model there; allowed: the export/ of a stage=reward run"
                    " (a folder whose config.json names ...ForSequenceClassification or ...ForTokenClassification)"
                )
            if found is not None and supervision not in ("auto", found):
                raise UserError(
                    f"reward_model.path={source}: judges by {found}, not by supervision={supervision}; allowed: {found}"
                )
            own = load_tokenizer(source)
            if tokenizer is None or _vocabulary(tokenizer) != _vocabulary(own):
                self._own = own
            asked = found or ("process" if supervision == "process" else "outcome")
            settings = ModelConfig.model_validate({"path": source})
            self.model = build_reward_model(settings, len(own), supervision=asked, dtype=dtype, seed=0).to(device)
        self.supervision: Supervision = self.model.supervision if supervision == "auto" else supervision
        self.reduction, self.tokens_per_microbatch = reduction, tokens_per_microbatch
        self.positions: int | None = getattr(self.model.model.config, "max_position_embeddings", None)

    @property
    def retokenises(self) -> bool:
        """Are rollouts decoded and tokenised anew?"""
        return self._own is not None and self._theirs is not None

    def score(self, rollouts: Sequence[Rollout]) -> Scores:
        """Score each rollout.

        Raises:
            UserError: a process is to be judged, and no rollout says where its steps end.
        """
        if self.supervision == "process" and rollouts and not any(len(rollout.step_ends) for rollout in rollouts):
            raise UserError(
                "rollout.steps=null: a process reward model needs the ends of steps; allowed: {split: lines}"
            )
        read = [self._read(rollout) for rollout in rollouts]
        values = self._values(read)
        if self.supervision == "outcome":
            return Scores(np.asarray([row[0] if len(row) else np.nan for row in values]), None)
        steps = [np.exp(-np.logaddexp(0, -row)) for row in values]
        return Scores(np.asarray([reduced(row, self.reduction) for row in steps]), steps)

    def probabilities(self, rollouts: Sequence[Rollout]) -> Floats:
        """(n,) scores from 0 to 1, as votes are weighted with; NaN where one cannot be scored."""
        outcome = self.score(rollouts).outcome
        return np.exp(-np.logaddexp(0, -outcome)) if self.supervision == "outcome" else outcome

    def _read(self, rollout: Rollout) -> _Read:
        ids, ends = rollout.token_ids.tolist(), np.asarray(rollout.step_ends, dtype=np.int64).tolist()
        if self.retokenises:
            ids, ends = self._anew(rollout, ends)
        return _Read(ids, ends if self.supervision == "process" else [len(ids) - 1])

    def _anew(self, rollout: Rollout, ends: Sequence[int]) -> tuple[list[int], list[int]]:
        """Tokens and ends of steps in the reward model's own vocabulary."""
        theirs, own = self._theirs, self._own
        assert theirs is not None
        assert own is not None
        start, tokens = rollout.prompt_tokens, rollout.token_ids.tolist()

        def text(first: int, last: int) -> str:
            return str(theirs.decode(tokens[first:last], skip_special_tokens=True))

        def encoded(part: str) -> tuple[list[int], NDArray[np.int64]]:
            found = own(part, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
            return list(found["input_ids"]), np.asarray([begin for begin, _ in found["offset_mapping"]], dtype=np.int64)

        prompt = ([] if own.bos_token_id is None else [own.bos_token_id]) + encoded(text(0, start))[0]
        answer, begins = encoded(text(start, len(tokens)))
        marks = [len(prompt) + max(0, int(np.searchsorted(begins, len(text(start, end + 1)))) - 1) for end in ends]
        over = [own.eos_token_id] if rollout.finish_reason == "eos" else []
        return prompt + answer + over, marks

    @torch.inference_mode()
    def _values(self, read: Sequence[_Read]) -> list[Floats]:
        """The values at each one's places; none for what is longer than the model's positions, or empty."""
        training = self.model.training
        self.model.eval()
        found = [np.zeros(0)] * len(read)
        device = self.model.head_weight.device
        for batch in self._batches(read):
            watch.progress("scoring by the reward model", watch.SLOW)
            input_ids = torch.tensor([token for number in batch for token in read[number].input_ids], device=device)
            varlen = Varlen.from_lengths([len(read[number].input_ids) for number in batch], device)
            values = self.model.values(input_ids, varlen).double().cpu().numpy()
            first = 0
            for number in batch:
                found[number] = values[first : first + len(read[number].input_ids)][read[number].places]
                first += len(read[number].input_ids)
        self.model.train(training)
        return found

    def _batches(self, read: Sequence[_Read]) -> Iterator[list[int]]:
        """Numbers of rollouts of like length, up to a batch's tokens."""
        longest = self.positions or np.inf
        fitting = [number for number, row in enumerate(read) if 0 < len(row.input_ids) <= longest]
        batch: list[int] = []
        total = 0
        for number in sorted(fitting, key=lambda number: len(read[number].input_ids)):
            length = len(read[number].input_ids)
            if batch and total + length > self.tokens_per_microbatch:
                yield batch
                batch, total = [], 0
            batch.append(number)
            total += length
        if batch:
            yield batch


def reduced(steps: Floats, reduction: Reduction) -> float:
    """One score of a solution from the probabilities of its steps: the least (Math-Shepherd), all together, the last.

    NaN where there is no step.
    """
    if not len(steps):
        return float("nan")
    return float({"min": steps.min(), "product": steps.prod(), "last": steps[-1]}[reduction])


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what turns text into ids and back; chat forms do not matter here."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    content = {key: backend.get(key) for key in ("added_tokens", "normalizer", "pre_tokenizer", "model", "decoder")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def reward_model_fingerprint(path: str) -> str:
    """SHA-256 (hex) of a folder's weights and settings: what scores depend on; of a hub id, its name."""
    folder, digest = Path(path).expanduser(), hashlib.sha256(path.encode() if path.startswith(HUB_PREFIX) else b"")
    files = [*folder.glob("*.safetensors"), *folder.glob("*.json")] if folder.is_dir() else []
    for file in sorted(files):
        digest.update(f"{file.name}:{file.stat().st_size}:".encode())
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
