"""Who is under way: the queue of prompts, the samples in the rows of the cache, and when each is finished.

Plain records of the host; nothing here knows a tensor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dsm.rollout.cache import Extent
from dsm.rollout.engine import Request, Sampling
from dsm.rollout.sampling import noise_key


@dataclass(eq=False)
class Prompt:
    """One distinct prompt and the samples that still wait for it; equal to itself alone."""

    input_ids: tuple[int, ...]
    waiting: deque[Sample] = field(default_factory=deque)
    alive: int = 0
    """Samples in rows."""


@dataclass(eq=False)
class Sample:
    """One completion on its way: sample `index` of request `request`."""

    request: int
    index: int
    prompt: Prompt
    sampling: Sampling
    limit: int
    """New tokens it may have: as asked for, or as many as the model still has positions."""
    key: int
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


class Queue:
    """Distinct prompts, longest first, so that those together in the cache are of like length."""

    def __init__(self, requests: Sequence[Request], positions: int) -> None:
        prompts: dict[tuple[int, ...], Prompt] = {}
        for number, request in enumerate(requests):
            ids, sampling = request.input_ids, request.sampling
            prompt = prompts.setdefault(ids, Prompt(ids))
            limit = min(sampling.max_new_tokens, positions - len(ids))
            for index in range(sampling.n):
                key = noise_key(ids, sampling.seed, index)
                prompt.waiting.append(Sample(number, index, prompt, sampling, limit, key))
        self.prompts = deque(sorted(prompts.values(), key=lambda prompt: -len(prompt.input_ids)))

    def __bool__(self) -> bool:
        return bool(self.prompts)

    def take(
        self, extent: Extent, active: Sequence[Prompt], max_rows: int, max_tokens: int, multiple: int
    ) -> list[Sample]:
        """The next samples that find room beside the prompts `active`, all in all `extent`; it may be none.

        A sample counts with all tokens that it may come to, so that none is ever turned out again. The cache has a
        multiple of `multiple` rows.
        """
        taken: list[Sample] = []
        present = set(active)
        while self.prompts:
            prompt = self.prompts[0]
            sample = prompt.waiting[0]
            wanted = Extent(
                extent.prompts + (prompt not in present),
                max(extent.prompt_tokens, len(prompt.input_ids)),
                extent.rows + 1,
                max(extent.row_tokens, sample.limit),
            )
            if wanted.rows > max_rows or wanted.rounded(multiple).tokens > max_tokens:
                break
            extent = wanted
            present.add(prompt)
            taken.append(prompt.waiting.popleft())
            if not prompt.waiting:
                self.prompts.popleft()
        return taken
