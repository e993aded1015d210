"""The engine that ships with dsm: PyTorch alone, in the process that asks, on a copy of the weights.

Every prompt is computed once and shared by its samples, finished rows make room for waiting ones, and nothing that one
sample says depends on what else is under way: noise comes from names (`dsm.rollout.sampling`) and sums run in a fixed
order (`dsm.rollout.decode`). In fp32 on one CPU thread that holds to the last bit. Several threads, and CUDA, split
sums by the size of the batch: there what is nearly a tie can come out otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dsm.config.engine import EngineConfig
from dsm.errors import UserError
from dsm.models.wrapper import CausalLM
from dsm.ops.logprobs import IGNORE, linear_logprobs
from dsm.ops.varlen import Varlen
from dsm.rollout.batch import Queue
from dsm.rollout.cache import Extent, free_memory, token_bytes
from dsm.rollout.collect import Collector
from dsm.rollout.decoder import Decoder, row_multiple
from dsm.rollout.engine import Completion, OnDone, Request, Weights
from dsm.rollout.llama import FIXED_ROPE, LlamaNetwork, is_llama_like
from dsm.rollout.network import Network, PackedAttention, TransformersNetwork
from dsm.rollout.stops import Detokenizer
from dsm.rollout.weights import WholeWeights


class EmbeddedEngine:
    """A `RolloutEngine` over any model that `CausalLM` takes.

    Llama, Mistral, Qwen2 and Qwen3 run on a decoder of our own, all others through transformers' modules; both keep a
    copy of the weights, so that the policy may be trained on meanwhile. End-of-sequence ids are the tokenizer's and
    those of the model's generation settings (`eos_ids`). Weights are `model`'s, or those given in their place; of a
    sharded model every process must make the engine, and `sync` it, together.
    """

    def __init__(
        self,
        model: CausalLM,
        tokenizer: PreTrainedTokenizerBase,
        config: EngineConfig | None = None,
        weights: Weights | None = None,
    ) -> None:
        self.config = config or EngineConfig()
        self.policy_version = 0
        self.eos_ids = end_ids(model, tokenizer)
        self.positions = positions_of(model)
        dtype = model.head_weight.dtype if self.config.dtype == "auto" else getattr(torch, self.config.dtype)
        with torch.inference_mode():
            by_hand = is_llama_like(model)
            found = _mapping(model if weights is None else weights, dtype)
            self._network: Network = (LlamaNetwork if by_hand else TransformersNetwork)(model, dtype, found)
        self._loaded = True
        self.vocab_size = len(self._network.head_weight)
        self.detokenizer = Detokenizer(tokenizer, self.vocab_size)

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request], on_done: OnDone | None = None) -> list[list[Completion]]:
        """The n completions of each request, in the order of the requests.

        `on_done(i, completions)` is called as soon as request i is complete; long prompts come first. A sample that
        comes to the end of the model's positions ends there, as "length". Raises ValueError for a prompt that leaves no
        position free or holds ids the model lacks, UserError where `engine.cache_gb` has no room for one sample.
        """
        network = self._ready()
        for number, request in enumerate(requests):
            self._check_ids(f"request {number}", request.input_ids, self.positions - 1)
        longest = max((_length(request, self.positions) for request in requests), default=0)
        network.cover(longest)
        collector = Collector(requests, self.detokenizer, self.eos_ids, on_done)
        Decoder(
            network,
            Queue(requests, self.positions),
            collector.take,
            positions=longest,
            max_rows=self.config.max_rows or (256 if network.device.type == "cpu" else 1024),
            max_tokens=self._max_tokens(requests),
            prefill_tokens=self.config.prefill_tokens,
        ).run()
        return collector.results()

    @torch.inference_mode()
    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """Log-probability (nats, temperature 1) of each token of each continuation after its prompt.

        Raises ValueError for an empty prompt, for ids the model lacks and for more tokens than it has positions.
        """
        network = self._ready()
        for number, (prompt, continuation) in enumerate(pairs):
            if not prompt:
                raise ValueError(f"pair {number}: a prompt needs at least one token")
            self._check_ids(f"pair {number}", [*prompt, *continuation], self.positions)
        lengths = [len(prompt) + len(continuation) for prompt, continuation in pairs]
        network.cover(max(lengths, default=0))
        scores: list[list[float]] = [[] for _ in pairs]
        for batch in batches([i for i, (_, continuation) in enumerate(pairs) if continuation], lengths, self.config):
            ids = torch.tensor([token for i in batch for part in pairs[i] for token in part], device=network.device)
            varlen = Varlen.from_lengths([lengths[i] for i in batch], network.device)
            targets = torch.tensor(
                [
                    target
                    for prompt, continuation in (pairs[i] for i in batch)
                    for target in [*[IGNORE] * (len(prompt) - 1), *continuation, IGNORE]
                ],
                device=network.device,
            )
            hidden = network.forward(ids, varlen.position_ids(), PackedAttention(varlen))
            logprobs, _ = linear_logprobs(hidden, network.head_weight, targets)
            of_pair = logprobs.cpu().split(varlen.lengths)
            for i, values in zip(batch, of_pair, strict=True):
                scores[i] = values[len(pairs[i][0]) - 1 : -1].tolist()
        return scores

    @torch.inference_mode()
    def sync(self, weights: Weights) -> None:
        """Copy and re-pack new weights; what is generated from now on comes from them."""
        self._network.load(_mapping(weights, self._network.dtype))
        self._loaded = True
        self.policy_version += 1

    def free(self) -> None:
        """Drop the weights; a cache lives no longer than its `generate`."""
        if self._loaded:
            self._network.unload()
        self._loaded = False

    def _ready(self) -> Network:
        if not self._loaded:
            raise RuntimeError("the engine's weights were freed; call sync first")
        return self._network

    def _check_ids(self, name: str, input_ids: Sequence[int], most: int) -> None:
        if len(input_ids) > most:
            raise ValueError(f"{name}: {len(input_ids)} tokens; the model's {self.positions} positions allow {most}")
        if min(input_ids) < 0 or max(input_ids) >= self.vocab_size:
            raise ValueError(f"{name}: token ids must lie in [0, {self.vocab_size})")

    def _max_tokens(self, requests: Sequence[Request]) -> int:
        """Tokens whose keys and values memory has room for; enough for any one sample, or a `UserError`."""
        network, config = self._network, self.config
        each = token_bytes(network.shapes, network.dtype)
        free = free_memory(network.device) // 2 if config.cache_gb is None else int(config.cache_gb * 2**30)
        rows = row_multiple(network.device)
        rooms = [Extent(1, len(r.input_ids), rows, _length(r, self.positions) - len(r.input_ids)) for r in requests]
        if rooms and (most := max(rooms, key=lambda room: room.rounded().tokens)).rounded().tokens * each > free:
            raise UserError(
                f"engine.cache_gb={config.cache_gb}: {free / 2**30:.3g} GiB is too little; a prompt of"
                f" {most.prompt_tokens} tokens and an answer of {most.row_tokens} need"
                f" {most.rounded().tokens * each / 2**30:.3g} GiB"
            )
        return free // each


def _mapping(weights: Weights, dtype: torch.dtype) -> Mapping[str, Tensor]:
    return WholeWeights(weights, dtype) if isinstance(weights, CausalLM) else weights


def batches(numbers: Sequence[int], lengths: Sequence[int], config: EngineConfig) -> Iterator[list[int]]:
    """Split into runs of at most `prefill_tokens` tokens, at least one number each."""
    batch: list[int] = []
    total = 0
    for i in numbers:
        if batch and total + lengths[i] > config.prefill_tokens:
            yield batch
            batch, total = [], 0
        batch.append(i)
        total += lengths[i]
    if batch:
        yield batch


def _length(request: Request, positions: int) -> int:
    """Tokens that prompt and answer may come to."""
    return min(len(request.input_ids) + request.sampling.max_new_tokens, positions)


def end_ids(model: CausalLM, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokenizer's, and those of generation settings that came with the model (not ones made up from defaults)."""
    settings = model.model.generation_config
    own = None if settings is None or settings._from_model_config else settings.eos_token_id
    ids = [own] if isinstance(own, int) else list(own or [])
    return frozenset(ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id])


def positions_of(model: CausalLM) -> int:
    """How long a sequence may be. Where angles change beyond the length first trained on, that length."""
    config = model.model.config
    rope = getattr(config, "rope_parameters", None) or {}
    positions = config.max_position_embeddings
    if rope.get("rope_type", "default") not in FIXED_ROPE:  # they would depend on who else is in the batch
        positions = min(positions, rope.get("original_max_position_embeddings", positions))
    return positions
