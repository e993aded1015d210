"""Tool-integrated reasoning: the model writes, its programs run, it reads what they say, it goes on.

A turn ends where the model closes a code block, or asks for output. The program then runs, and the whole output block
is appended for the model to read: it never writes one itself, since an ```output of its own stops it. All of a batch
take their turns together; a program runs while the others' tokens are still being generated.

What comes out is a `Trajectory` of tokens: which of them the model chose and with what probability, and which were put
in. Training on the former alone is training on what the model did.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from dsm.config.tools import ToolConfig
from dsm.rollout.engine import Completion, Request, RolloutEngine
from dsm.sandbox import Execution, Program, Sandbox, Status
from dsm.tools.blocks import Block, find_blocks
from dsm.tools.inside import calling
from dsm.tools.transcript import OUTPUT_MARKER, decode, encode, output_block, shown_output

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FinishReason = Literal["eos", "stop", "length", "rounds", "no_program"]

_FENCE_END = "\n```\n"
_FALSE_ALARMS = 8
"""Stops at a fence that ended no program, after which a trajectory's generation no longer stops at fences."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One run of a program: the block that the model wrote, what it was shown, how and how long it ran (seconds)."""

    code: str
    output: str
    status: Status
    seconds: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One answer with the programs that ran in it.

    Attributes:
        token_ids: everything after the prompt (N,): the model's tokens, an EOS or the tokens of a stop string included
            as in `Completion`, and the tokens of the output blocks.
        action_mask: for each token whether the model chose it (N,); what is False is read, never trained on.
        logprobs: log-probability in nats that the engine gave for each of the model's tokens (N,); 0 for the others.
        text: the transcript, cut before the string that stopped it for "stop" and "no_program".
        finish_reason: "eos"; "stop": a stop string of the request's; "length": no room for another token, in
            `max_new_tokens` (the model's tokens of all turns) or in the context (all tokens, the prompt's too);
            "rounds": the last allowed turn ended with a program, whose output ends the transcript; "no_program": the
            model wrote ```output without having written a program.
        calls: the programs that ran, in order.
    """

    token_ids: tuple[int, ...]
    action_mask: tuple[bool, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    calls: tuple[ToolCall, ...]

    @property
    def action_tokens(self) -> int:
        """Number of tokens that the model wrote."""
        return sum(self.action_mask)


OnDone = Callable[[int, list[Trajectory]], None]
"""Called with the index of a request and its n trajectories as soon as the last of them has ended."""


@dataclass
class _Run:
    """A trajectory under way."""

    request: int
    sample: int
    token_ids: list[int] = field(default_factory=list)
    action_mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    turn: str = ""  # what the model has written since the last output block
    blocks: list[str] = field(default_factory=list)  # programs before the one that runs, as far as they can run again
    calls: list[ToolCall] = field(default_factory=list)
    generations: int = 0
    rounds: int = 0
    false_alarms: int = 0
    finish_reason: FinishReason | None = None
    pending: Future[Execution] | None = None
    pending_blocks: list[str] = field(default_factory=list)
    leftover: str = ""  # text of the model's whose token had to go because it reached into the output marker
    fence_open: bool = False

    def add_tokens(self, token_ids: Sequence[int], logprobs: Sequence[float] | None) -> None:
        """Append the model's tokens, or with no log-probabilities those of an output block."""
        self.token_ids += token_ids
        self.action_mask += [logprobs is not None] * len(token_ids)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(token_ids)

    def trajectory(self) -> Trajectory:
        assert self.finish_reason is not None
        return Trajectory(
            tuple(self.token_ids),
            tuple(self.action_mask),
            tuple(self.logprobs),
            self.text,
            self.finish_reason,
            tuple(self.calls),
        )


class ToolUse:
    """Answers prompts with an engine and a sandbox.

    `context` is the number of positions the model has for prompt and transcript together; None is no limit. The first
    turn of a request's n samples is one request to the engine, with its seed. Later turns have seeds that depend on the
    request's seed, the sample and the turn only. So a trajectory depends on nothing else in the batch, and one without
    code blocks has the tokens that plain generation gives.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        sandbox: Sandbox,
        tokenizer: PreTrainedTokenizerBase,
        config: ToolConfig,
        context: int | None = None,
    ) -> None:
        self.engine, self.sandbox, self.tokenizer, self.config = engine, sandbox, tokenizer, config
        self.context = context

    def generate(self, requests: Sequence[Request], on_done: OnDone | None = None) -> list[list[Trajectory]]:
        """The n trajectories of each request, in order; `max_new_tokens` bounds the model's tokens over all turns."""
        runs = [[_Run(i, j) for j in range(request.sampling.n)] for i, request in enumerate(requests)]
        reported: set[int] = set()

        def report(indices: Iterable[int]) -> None:
            for index in dict.fromkeys(indices):
                if index not in reported and all(run.finish_reason for run in runs[index]):
                    reported.add(index)
                    if on_done is not None:
                        on_done(index, [run.trajectory() for run in runs[index]])

        groups = self._with_room(runs, requests)
        report(range(len(requests)))
        while groups:

            def take(index: int, completions: list[Completion], groups: list[list[_Run]] = groups) -> None:
                for run, completion in zip(groups[index], completions, strict=True):
                    self._read_turn(run, completion, requests[run.request])
                report(run.request for run in groups[index])

            self.engine.generate([self._next_request(group, requests) for group in groups], take)
            live = [run for group in groups for run in group if run.finish_reason is None]
            for run in live:
                if run.pending is not None:
                    self._read_output(run, requests[run.request])
            groups = self._with_room([[run] for run in live if run.finish_reason is None], requests)
            report(run.request for run in live)
        return [[run.trajectory() for run in row] for row in runs]

    # ------------------------------------------------------------ turns of the model

    def _room(self, run: _Run, request: Request) -> int:
        """Tokens that the model may still write."""
        left = request.sampling.max_new_tokens - sum(run.action_mask)
        if self.context is not None:
            left = min(left, self.context - len(request.input_ids) - len(run.token_ids))
        return left

    def _with_room(self, groups: Sequence[list[_Run]], requests: Sequence[Request]) -> list[list[_Run]]:
        """The groups (runs with the same tokens so far) that can go on; the others end here."""
        going = []
        for group in groups:
            if self._room(group[0], requests[group[0].request]) > 0:
                going.append(group)
                continue
            for run in group:
                run.finish_reason = "length"
        return going

    def _next_request(self, group: Sequence[_Run], requests: Sequence[Request]) -> Request:
        run = group[0]
        request = requests[run.request]
        sampling = request.sampling
        stops = [OUTPUT_MARKER] if run.false_alarms >= _FALSE_ALARMS else [OUTPUT_MARKER, _FENCE_END]
        return Request(
            (*request.input_ids, *run.token_ids),
            replace(
                sampling,
                n=len(group),
                max_new_tokens=self._room(run, request),
                stop=tuple(dict.fromkeys([*sampling.stop, *stops])),
                seed=sampling.seed if run.generations == 0 else _seed(sampling.seed, run.sample, run.generations),
            ),
        )

    def _read_turn(self, run: _Run, completion: Completion, request: Request) -> None:
        """Take over what the model wrote; start its program or end the trajectory."""
        run.generations += 1
        if completion.finish_reason != "stop" or completion.stop in request.sampling.stop:
            run.add_tokens(completion.token_ids, completion.logprobs)
            run.text += completion.text
            run.finish_reason = completion.finish_reason
            return
        asked = completion.stop == OUTPUT_MARKER
        text = completion.text if asked else completion.text + _FENCE_END
        blocks = find_blocks(run.turn + text)
        if asked and not any(block.is_python for block in blocks):
            run.add_tokens(completion.token_ids, completion.logprobs)
            run.text += text
            run.finish_reason = "no_program"
            return
        kept = self._tokens_within(completion.token_ids, text)
        written = decode(completion.token_ids[:kept], self.tokenizer)
        run.add_tokens(completion.token_ids[:kept], completion.logprobs[:kept])
        run.text += written
        run.turn += written
        if asked or (blocks and blocks[-1].is_python and blocks[-1].closed):
            run.leftover = text[len(written) :]
            self._start_program(run, blocks)
        else:
            run.false_alarms += 1  # a fence of some other kind: the model goes on from there

    def _tokens_within(self, token_ids: Sequence[int], text: str) -> int:
        """How many of the first tokens spell no more than `text`, with which they begin, and blanks behind it."""
        for count in range(len(token_ids), 0, -1):
            written = decode(token_ids[:count], self.tokenizer)
            if text.startswith(written) or (written.startswith(text) and not written[len(text) :].strip()):
                return count
        return 0

    # ------------------------------------------------------------ turns of the programs

    def _start_program(self, run: _Run, blocks: Sequence[Block]) -> None:
        """Run the turn's last program after all those before it."""
        programs = [block.code for block in blocks if block.is_python]
        run.fence_open = not blocks[-1].closed
        run.pending_blocks = programs
        earlier, last = [*run.blocks, *programs[:-1]], programs[-1]
        code = calling("session", "replay", earlier, last) if earlier else last
        run.pending = self.sandbox.submit(Program(code, timeout_s=self.config.timeout_s))

    def _read_output(self, run: _Run, request: Request) -> None:
        """Wait for the program and append its output block, if the context has room for it."""
        assert run.pending is not None
        execution, run.pending = run.pending.result(), None
        output = shown_output(execution, self.config, self.tokenizer)
        block = run.leftover + output_block(output, after=run.turn + run.leftover, fence_open=run.fence_open)
        run.calls.append(ToolCall(run.pending_blocks[-1], output, execution.status, execution.seconds))
        run.blocks += run.pending_blocks[:-1]
        if execution.status in ("ok", "error"):  # another would not end any better the next time
            run.blocks.append(run.pending_blocks[-1])
        run.turn, run.leftover, run.rounds = "", "", run.rounds + 1
        token_ids = encode(block, self.tokenizer)
        if self.context is not None and len(request.input_ids) + len(run.token_ids) + len(token_ids) > self.context:
            run.finish_reason = "length"
            return
        run.add_tokens(token_ids, None)
        run.text += block
        if run.rounds >= self.config.rounds:
            run.finish_reason = "rounds"


def _seed(seed: int, sample: int, generation: int) -> int:
    """64 bits for one later turn, unlike those of any other sample or turn."""
    digest = hashlib.blake2b(f"{seed}:{sample}:{generation}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
