"""One call of `generate`, from the first prompt to the last token: rows fill from a queue and empty as samples end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dsm.ops.varlen import Varlen
from dsm.rollout.batch import Prompt, Queue, Sample
from dsm.rollout.cache import Extent, KVCache
from dsm.rollout.decode import DecodeAttention, Grouping, group_width
from dsm.rollout.linear import ROWS
from dsm.rollout.network import Network, PackedAttention
from dsm.rollout.sampling import Draws, draw

FIRST_COLUMNS = 64
"""Room for new tokens that rows start with; it doubles when the longest needs more."""

OnToken = Callable[[Sample, int, float], bool]
"""Takes a sample's newest token and its log-probability, and says whether that finishes it."""


class Decoder:
    """The rows of the cache and what is computed with them.

    A row whose sample is finished computes on, unheeded, until an eighth of the rows are such; then those alive move
    together and the queue fills the room.
    """

    def __init__(
        self,
        network: Network,
        queue: Queue,
        on_token: OnToken,
        *,
        positions: int,
        max_rows: int,
        max_tokens: int,
        prefill_tokens: int,
    ) -> None:
        self.network, self.queue, self.on_token = network, queue, on_token
        self.positions, self.max_rows, self.max_tokens = positions, max_rows, max_tokens
        self.prefill_tokens = prefill_tokens
        self.device = network.device
        self.multiple = row_multiple(self.device)
        self.cache = KVCache(network.shapes, network.dtype, self.device)
        self.prompts: list[Prompt] = []  # by slot
        self.samples: list[Sample] = []  # by row
        self.tokens = self._zeros()  # newest of each row, not in the cache yet
        self.lengths = self._zeros()  # tokens of each row in the cache
        self.prompt_lengths = self._zeros()
        self.last_hidden = torch.empty(0)  # (slots, H), what the first new token is drawn from

    def run(self) -> None:
        """Until nothing waits and nothing is under way."""
        while True:
            alive = sum(not sample.finished for sample in self.samples)
            if (len(self.samples) - alive) * 8 >= len(self.samples):
                self._compact()
                if self.queue and (not alive or (self.max_rows - alive) * 8 >= self.max_rows):
                    self._admit()
            if self.samples:
                self._step()
            elif not self.queue:
                return

    # ---------------------------------------------------------------- coming and going

    def _admit(self) -> None:
        """Fill free rows: compute the prompts that are new, and draw the first token of each new sample."""
        active = self._extent()
        taken = self.queue.take(active, self.prompts, self.max_rows, self.max_tokens, self.multiple)
        if not taken:
            assert self.samples  # there is room for any one sample
            return
        present = set(self.prompts)
        fresh = list(dict.fromkeys(sample.prompt for sample in taken if sample.prompt not in present))
        for sample in taken:
            sample.prompt.alive += 1
        self._make_room(
            Extent(
                len(self.prompts) + len(fresh),
                max([active.prompt_tokens, *(len(prompt.input_ids) for prompt in fresh)]),
                len(self.samples) + len(taken),
                min(FIRST_COLUMNS, max(sample.limit for sample in taken)),
            )
        )
        while fresh:
            count, total = 1, len(fresh[0].input_ids)
            while count < len(fresh) and (total := total + len(fresh[count].input_ids)) <= self.prefill_tokens:
                count += 1
            self._prefill(fresh[:count])
            fresh = fresh[count:]

        slot_of = {prompt: slot for slot, prompt in enumerate(self.prompts)}
        hidden = self.last_hidden[self._index([slot_of[sample.prompt] for sample in taken])]
        tokens = self._draw(taken, hidden, self._draws(taken))
        kept = [i for i, sample in enumerate(taken) if not sample.finished]
        self.samples += [taken[i] for i in kept]
        self.tokens = torch.cat([self.tokens, tokens[self._index(kept)]])
        self.lengths = torch.cat([self.lengths, self._zeros(len(kept))])
        self._regroup()

    def _prefill(self, prompts: Sequence[Prompt]) -> None:
        """Compute new prompts into the next slots."""
        first, lengths = len(self.prompts), [len(prompt.input_ids) for prompt in prompts]
        ids = [token for prompt in prompts for token in prompt.input_ids]
        padding = -len(ids) % self.multiple
        varlen = Varlen.from_lengths([*lengths, padding] if padding else lengths, self.device)
        total = len(ids)

        def store(layer: int, key: Tensor, value: Tensor) -> None:
            self.cache.store_prompts(layer, key[:total], value[:total], lengths, first)

        positions = varlen.position_ids()
        positions[total:] = 0  # a model may have fewer than there is padding
        tokens = self._index(ids + [0] * padding)
        hidden = self.network.forward(tokens, positions, PackedAttention(varlen, store))
        last = hidden[varlen.cu_seqlens[1 : len(prompts) + 1].long() - 1]
        self.last_hidden = torch.cat([self.last_hidden, last]) if self.prompts else last
        self.prompt_lengths = torch.cat([self.prompt_lengths, torch.tensor(lengths, device=self.device)])
        self.prompts += prompts

    def _compact(self) -> None:
        """Move what is alive together: the last rows into holes, prompts in their order."""
        alive = [row for row, sample in enumerate(self.samples) if not sample.finished]
        if len(alive) < len(self.samples):
            movers = [row for row in alive if row >= len(alive)]
            holes = [row for row in range(len(alive)) if self.samples[row].finished]
            order = list(range(len(alive)))
            for mover, hole in zip(movers, holes, strict=True):
                order[hole] = mover
            if movers:
                self.cache.move_rows(self._index(movers), self._index(holes), self._longest())
            rows = self._index(order)
            self.tokens, self.lengths = self.tokens[rows], self.lengths[rows]
            self.samples = [self.samples[row] for row in order]
        kept = [slot for slot, prompt in enumerate(self.prompts) if prompt.alive or prompt.waiting]
        if len(kept) < len(self.prompts):
            moved = [(slot, new) for new, slot in enumerate(kept) if slot != new]
            if moved:
                self.cache.move_prompts(self._index([old for old, _ in moved]), self._index([new for _, new in moved]))
            slots = self._index(kept)
            self.prompt_lengths, self.last_hidden = self.prompt_lengths[slots], self.last_hidden[slots]
            self.prompts = [self.prompts[slot] for slot in kept]
        if self.samples:
            self._regroup()

    def _make_room(self, wanted: Extent) -> None:
        extent = self.cache.extent
        union = wanted.rounded(self.multiple).union(extent)
        if union == extent:
            return
        if union.tokens > self.max_tokens:  # room that is needed no more, such as a long prompt's, goes
            union = wanted.union(self._extent()).rounded(self.multiple)
        self.cache.resize(union, len(self.prompts), len(self.samples))

    def _extent(self) -> Extent:
        """The room that prompts and samples under way need, at most, until they end."""
        return Extent(
            len(self.prompts),
            max((len(prompt.input_ids) for prompt in self.prompts), default=0),
            len(self.samples),
            max((sample.limit for sample in self.samples), default=0),
        )

    def _regroup(self) -> None:
        """What follows from who is in which row; host and device learn it once per change."""
        slot_of = {prompt: slot for slot, prompt in enumerate(self.prompts)}
        slots = [slot_of[sample.prompt] for sample in self.samples]
        padding = -len(slots) % self.multiple
        shape = self.network.shapes[0]
        width = group_width(shape.query_heads // shape.heads, max(prompt.alive for prompt in self.prompts), self.device)
        self.grouping = Grouping.of(slots, len(self.prompts), width, padding, self.device)
        self.draws = self._draws(self.samples)

    # ---------------------------------------------------------------- computing

    def _step(self) -> None:
        """Every row: its newest token in, the next one out."""
        longest = self._longest()
        if longest + 1 > self.cache.extent.row_tokens:
            wanted = min(2 * longest, self._extent().row_tokens)
            self._make_room(Extent(row_tokens=wanted))
        padding = self._zeros(-len(self.samples) % self.multiple)
        tokens = torch.cat([self.tokens, padding])
        # Rows of finished samples run on; they must stay inside the cache and the model's positions.
        lengths = torch.cat([self.lengths, padding]).clamp_(max=self.cache.extent.row_tokens - 1)
        positions = (self.prompt_lengths[self.grouping.slot_of_row] + lengths).clamp_(max=self.positions - 1)
        longest_prompt = max(len(prompt.input_ids) for prompt in self.prompts)
        attention = DecodeAttention(self.cache, self.grouping, lengths, self.prompt_lengths, longest, longest_prompt)
        hidden = self.network.forward(tokens, positions, attention)
        self.tokens = self._draw(self.samples, hidden, self.draws)
        self.lengths += 1

    def _draw(self, samples: Sequence[Sample], hidden: Tensor, draws: Draws) -> Tensor:
        """Draw each sample's next token from the hidden state of its row, and note which are finished by it: (R,)."""
        hidden = F.pad(hidden, (0, 0, 0, -len(hidden) % self.multiple))
        logits = self.network.logits(hidden)[: len(samples)]
        drawn = np.array([len(sample.token_ids) for sample in samples], dtype=np.int64)
        tokens, probs = draw(logits, draws, drawn)
        host = torch.stack([tokens.double(), probs.double()]).tolist()  # the step's one wait for the device
        for sample, token, prob in zip(samples, *host, strict=True):
            if sample.finished:
                continue
            if not prob > 0:
                raise RuntimeError("the model's logits are not finite: its weights are damaged or have diverged")
            if self.on_token(sample, int(token), math.log(prob)):
                sample.finished = True
                sample.prompt.alive -= 1
        return tokens

    def _draws(self, samples: Sequence[Sample]) -> Draws:
        return Draws.of(
            [sample.key for sample in samples],
            [sample.sampling.temperature for sample in samples],
            [sample.sampling.top_p for sample in samples],
            self.device,
        )

    def _longest(self) -> int:
        """Tokens in the cache of the longest sample alive: its newest is not there yet."""
        return max((len(sample.token_ids) - 1 for sample in self.samples if not sample.finished), default=0)

    def _index(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self.device)

    def _zeros(self, count: int = 0) -> Tensor:
        return torch.zeros(count, dtype=torch.int64, device=self.device)


def row_multiple(device: torch.device) -> int:
    """What numbers of rows are padded to, so that a row's bits do not depend on the others; CPUs alone allow it."""
    return ROWS if device.type == "cpu" else 1
