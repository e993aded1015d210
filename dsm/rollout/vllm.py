"""vLLM as a `RolloutEngine`: in the process that asks, with the policy's weights pushed into it.

vLLM is started on a folder that holds the policy's configuration and tokenizer and no weights. `sync` reads them from
the policy, one whole weight at a time, and then drops the cached keys and values of shared prefixes, which are the old
weights' and would be used without a word. Nothing of vLLM is touched but its documented calls; all of it is in this
file, for those calls change from version to version (tried: 0.32).

Log-probabilities are of softmax(logits / temperature), as the trainer's are. Under `top_p` < 1 vLLM gives those of the
truncated distribution instead: they are then no log-probabilities of the policy, and differ from the trainer's. The
noise is a function of (prompt, seed, index of the sample), but sums depend on who else is in the batch, so what is
nearly a tie can come out otherwise in other company.
"""

from __future__ import annotations

import importlib
import os
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from dsm.config.engine import INSTALL_VLLM, VLLMConfig
from dsm.errors import UserError
from dsm.models.wrapper import CausalLM
from dsm.rollout.embedded import end_ids, positions_of
from dsm.rollout.engine import Completion, OnDone, Request, Sampling, Weights
from dsm.rollout.sampling import noise_key
from dsm.rollout.stops import Detokenizer
from dsm.rollout.weights import WholeWeights

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # weights are handed over as tensors, not through files
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the trainer's threads work on the same cores
}
_PREFILL_TOKENS = 4096


class VLLMEngine:
    """A `RolloutEngine` over the models that vLLM knows.

    Weights are `model`'s, or those given in their place; of a sharded model every process must make the engine, and
    `sync` it, together: each has an engine of its own.

    Raises:
        UserError: vLLM cannot be imported here, or does not know the model.
    """

    def __init__(
        self,
        model: CausalLM,
        tokenizer: PreTrainedTokenizerBase,
        config: VLLMConfig,
        weights: Weights | None = None,
    ) -> None:
        self.config, self.policy_version = config, 0
        self.eos_ids, self.positions = end_ids(model, tokenizer), positions_of(model)
        self.vocab_size = len(model.head_weight)
        self.detokenizer = Detokenizer(tokenizer, self.vocab_size)
        self._dtype = model.head_weight.dtype if config.dtype == "auto" else getattr(torch, config.dtype)
        self._vllm = _imported()
        self._sleeps = model.head_weight.device.type == "cuda"
        self._numbers = count()
        with _random_state_kept(), tempfile.TemporaryDirectory(prefix="dsm-vllm-") as folder:
            _describe(model, tokenizer, Path(folder))
            self._llm = self._started(folder)
        self._asleep = False
        self._load(model if weights is None else weights)

    def _started(self, folder: str) -> Any:
        config, where = self.config, dict[str, Any]()
        if self._sleeps:
            where = {"gpu_memory_utilization": config.memory_share, "enable_sleep_mode": True}
        else:
            where = {"kv_cache_memory_bytes": int((config.cache_gb or 1) * 2**30)}
            # A prompt computed in pieces takes back noise that was drawn too early, which generators on a CPU refuse.
            where |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(self.positions, _PREFILL_TOKENS)}
        try:
            return self._vllm.LLM(
                model=folder,
                load_format="dummy",
                dtype=str(self._dtype).removeprefix("torch."),
                max_model_len=self.positions,
                max_num_seqs=config.max_rows,
                logprobs_mode="processed_logprobs",
                generation_config="vllm",
                enable_prefix_caching=True,
                enforce_eager=config.enforce_eager,
                disable_log_stats=True,
                **where,
            )
        except (ValueError, RuntimeError) as error:  # of a model that it does not know, or of too little memory
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"engine.name=vllm: vLLM cannot run this model here ({reason}); allowed: embedded"
            ) from error

    # ------------------------------------------------------------ generation

    def generate(self, requests: Sequence[Request], on_done: OnDone | None = None) -> list[list[Completion]]:
        """The n completions of each request, in the order of the requests; see `EmbeddedEngine.generate`."""
        self._ready()
        for number, request in enumerate(requests):
            self._check_ids(f"request {number}", request.input_ids, self.positions - 1)
        found: dict[int, list[Completion]] = {}
        for index, output in self._outputs([(r.input_ids, self._parameters(r)) for r in requests]):
            of_request = sorted(output.outputs, key=lambda sample: sample.index)
            sampling = requests[index].sampling
            found[index] = [self._completion(sample, sampling) for sample in of_request]
            found[index] *= sampling.n // len(of_request)
            if on_done is not None:
                on_done(index, found[index])
        return [found[index] for index in range(len(requests))]

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """Log-probability (nats, temperature 1) of each token of each continuation after its prompt.

        Raises:
            ValueError: an empty prompt, ids the model lacks, or no position left: vLLM needs one behind the last token.
        """
        self._ready()
        scores: list[list[float]] = [[] for _ in pairs]
        asked = [index for index, (_, continuation) in enumerate(pairs) if continuation]
        for index, (prompt, continuation) in enumerate(pairs):
            if not prompt:
                raise ValueError(f"pair {index}: a prompt needs at least one token")
            self._check_ids(f"pair {index}", [*prompt, *continuation], self.positions - 1)
        parameters = self._vllm.SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        for place, output in self._outputs([((*pairs[i][0], *pairs[i][1]), parameters) for i in asked]):
            prompt, continuation = pairs[asked[place]]
            told = output.prompt_logprobs[len(prompt) :]
            scores[asked[place]] = [each[token].logprob for each, token in zip(told, continuation, strict=True)]
        return scores

    def _outputs(self, requests: Sequence[tuple[Sequence[int], Any]]) -> Iterator[tuple[int, Any]]:
        """Each request's place and output as soon as all its samples have ended; the rest is dropped on the way out."""
        engine = self._llm.llm_engine
        places: dict[str, int] = {}
        try:
            for place, (input_ids, parameters) in enumerate(requests):
                name = str(next(self._numbers))
                places[name] = place
                engine.add_request(name, self._vllm.TokensPrompt(prompt_token_ids=list(input_ids)), parameters)
            while places:
                for output in engine.step():
                    if output.finished:
                        yield places.pop(output.request_id), output
        finally:
            if places:
                engine.abort_request(list(places))

    def _parameters(self, request: Request) -> Any:
        sampling = request.sampling
        return self._vllm.SamplingParams(
            n=sampling.n
            if sampling.temperature
            else 1,  # greedy answers are all the same, and it refuses to repeat one
            max_tokens=min(sampling.max_new_tokens, self.positions - len(request.input_ids)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            stop=list(sampling.stop) or None,
            stop_token_ids=sorted(self.eos_ids),
            ignore_eos=True,  # its notion of an end may be another than the tokenizer's and the model's
            seed=noise_key(request.input_ids, sampling.seed, 0) >> 2,  # it adds the sample's index
            logprobs=0,
            detokenize=bool(sampling.stop),
            output_kind=self._vllm.sampling_params.RequestOutputKind.FINAL_ONLY,
        )

    def _completion(self, sample: Any, sampling: Sampling) -> Completion:
        ids = tuple(int(token) for token in sample.token_ids)
        logprobs = tuple(float(each[token].logprob) for each, token in zip(sample.logprobs, ids, strict=True))
        if ids[-1] in self.eos_ids:
            return Completion(ids, logprobs, self.detokenizer.text(ids[:-1]), "eos")
        found = self.detokenizer.find(ids, sampling.stop) if sampling.stop else None
        if found is not None:
            return Completion(ids, logprobs, found[0], "stop", found[1])
        if sample.finish_reason == "stop":  # it decodes bytes of characters cut in two otherwise
            return Completion(ids, logprobs, sample.text, "stop", str(sample.stop_reason))
        return Completion(ids, logprobs, self.detokenizer.text(ids), "length")

    # ------------------------------------------------------------ weights

    def sync(self, weights: Weights) -> None:
        """Take over new weights; what is generated from now on comes from them."""
        self._load(weights)
        self.policy_version += 1

    def _load(self, weights: Weights) -> None:
        found = WholeWeights(weights, self._dtype) if isinstance(weights, CausalLM) else weights
        if self._asleep and self._sleeps:
            self._llm.wake_up(tags=["weights"])
        each = ((name, found[name].detach()) for name in found)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": each})
        if self._asleep and self._sleeps:
            self._llm.wake_up(tags=["kv_cache"])
        self._llm.reset_prefix_cache()
        self._asleep = False

    def free(self) -> None:
        """Give a CUDA device's memory back, weights and cache; on a CPU vLLM keeps them."""
        if self._sleeps and not self._asleep:
            self._llm.sleep(level=2)
        self._asleep = True

    def _ready(self) -> None:
        if self._asleep:
            raise RuntimeError("the engine's weights were freed; call sync first")

    def _check_ids(self, name: str, input_ids: Sequence[int], most: int) -> None:
        if len(input_ids) > most:
            raise ValueError(f"{name}: {len(input_ids)} tokens; the model's {self.positions} positions allow {most}")
        if min(input_ids) < 0 or max(input_ids) >= self.vocab_size:
            raise ValueError(f"{name}: token ids must lie in [0, {self.vocab_size})")


def _imported() -> Any:
    """vLLM, as far as it is used here."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        vllm = importlib.import_module("vllm")
        for name in ("LLM", "SamplingParams", "TokensPrompt", "sampling_params"):
            getattr(vllm, name)  # it imports them when they are first asked for
    except (ImportError, AttributeError, RuntimeError, OSError) as error:  # a missing operator is a RuntimeError
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"engine.name=vllm: vLLM cannot be imported here ({reason}); {INSTALL_VLLM}") from error
    return vllm


def _describe(model: CausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """What vLLM reads before it has weights."""
    config = type(model.model.config).from_dict(model.model.config.to_dict())
    config.architectures = [type(model.model).__name__]
    config.vocab_size = len(model.head_weight)
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """vLLM seeds all generators when it starts; the run's go on as if it had not."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
