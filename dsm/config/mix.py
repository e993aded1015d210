"""What a user may say about a mix of token stores, and the exact arithmetic of its shares."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dsm.config.base import Schema
from dsm.errors import UserError

Weight = Annotated[float, Field(ge=0)]

MAX_PERIOD = 10**6
"""The largest common denominator of a mix's shares: its order repeats after so many sequences, which are tabulated."""


class MixSource(Schema):
    """One token store and its share."""

    path: str | None = Field(
        default=None,
        min_length=1,
        description="a store that stage=tokenize wrote, or a folder of datatrove's .ds files; null = mix.root/NAME",
    )
    weight: Weight = Field(description="share of the sequences, relative to the other weights; 0 = none for now")
    max_epochs: float | None = Field(default=None, gt=0, description="passes over the store in the whole run at most")
    tokens: int | None = Field(
        default=None, gt=0, lt=2**63, description="its size, for plans that are made before the store is there"
    )


class WeightChange(Schema):
    """From a stated token on, other weights; a source that is not named keeps the weight it had."""

    from_tokens: int = Field(gt=0, lt=2**53, description="counted from the start of the run")
    weights: dict[str, Weight] = Field(min_length=1)


class ValidationStore(Schema):
    """Held-out documents."""

    path: str = Field(min_length=1, description="a token store, read from its beginning")


class MixValidation(Schema):
    """What the validation loss is taken on."""

    sequences: int = Field(ge=0, lt=2**31, description="of each source at most")
    sources: dict[str, ValidationStore] = Field(
        description="stores by name; a source of the mix that is not named here uses its store's own validation folder"
    )


@dataclass(frozen=True)
class Segment:
    """A stretch of the run with one set of weights.

    Attributes:
        first: the sequence that it begins with, counted from the start of the run.
        weights: of each source, in lowest terms; so many of every `period` sequences.
    """

    first: int
    weights: tuple[int, ...]

    @property
    def period(self) -> int:
        """The common denominator of the shares."""
        return sum(self.weights)


class MixConfig(Schema):
    """Named token stores in exact proportions."""

    context: int = Field(ge=8, lt=2**31, description="tokens of a sequence")
    root: str | None = Field(min_length=1, description="the folder of the stores that have no path of their own")
    sources: dict[str, MixSource] = Field(max_length=4096)
    schedule: list[WeightChange] = Field(description="weights that change at stated tokens, in their order")
    exhausted: Literal["refuse", "redistribute"]
    packing: Literal["cut", "best_fit"]
    mask_documents: bool
    validation: MixValidation

    @model_validator(mode="after")
    def _sources_are_there(self) -> MixConfig:
        if not self.sources:
            raise ValueError("sources={}: name at least one store, as mix.sources.NAME.path=FOLDER with a weight")
        for name, source in self.sources.items():
            if source.path is None and self.root is None:
                raise ValueError(f"sources.{name}.path=null: must be given, or mix.root, the folder with {name} in it")
        return self

    @model_validator(mode="after")
    def _weights_make_a_mix(self) -> MixConfig:
        before = 0
        for number, change in enumerate(self.schedule):
            key = f"schedule.{number}"
            if unknown := sorted(set(change.weights) - set(self.sources)):
                known = ", ".join(self.sources)
                raise ValueError(f"{key}.weights.{unknown[0]}: not one of the sources; allowed are {known}")
            if change.from_tokens <= before:
                raise ValueError(f"{key}.from_tokens={change.from_tokens}: must be more than the one before ({before})")
            before = change.from_tokens
        for number, weights in enumerate(self._weights()):
            key = f"schedule.{number - 1}.weights" if number else "sources.*.weight"
            if not any(weights):
                raise ValueError(f"{key}: all are 0; at least one source must have a weight")
            if (period := sum(_lowest_terms(weights))) > MAX_PERIOD:
                total, shown = sum(weights), []
                for name, weight in zip(self.sources, weights, strict=True):
                    shown.append(f"{name}: {round(weight / total * 10_000)}")
                raise ValueError(
                    f"{key}: the shares have the common denominator {period:,}, at most {MAX_PERIOD:,} is allowed;"
                    f" rounded they are {{{', '.join(shown)}}}"
                )
        return self

    def _weights(self) -> list[list[Fraction]]:
        """The weights at the start and after each change, as written: 0.1 is a tenth."""
        current = {name: source.weight for name, source in self.sources.items()}
        found = [list(current.values())]
        for change in self.schedule:
            current |= change.weights
            found.append(list(current.values()))
        return [[Fraction(repr(weight)) for weight in weights] for weights in found]

    def store(self, name: str) -> str:
        """Where a source's store lies."""
        path = self.sources[name].path
        return path if path is not None else f"{self.root}/{name}"

    def size(self, name: str) -> int | None:
        """Tokens of a source: as its store's manifest has it, else as stated, else unknown."""
        try:
            manifest = json.loads((Path(self.store(name)).expanduser() / "manifest.json").read_text(encoding="utf-8"))
            return int(manifest["tokens"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.sources[name].tokens

    def segments(self, rows: Mapping[str, int | None] | None = None, sequences: int | None = None) -> list[Segment]:
        """The run in stretches of equal weights.

        A change counts from the first sequence that begins at or after its token. Under `exhausted=redistribute` a
        source whose `rows` (sequences in one epoch) are known also stops where its `max_epochs` are read, and the
        others share its part in the proportion of their own weights.

        Raises:
            UserError: all sources have stopped before the run of so many `sequences` ends.
        """
        starts = [0, *(-(-change.from_tokens // self.context) for change in self.schedule)]
        found: list[Segment] = []
        for first, weights in zip(starts, self._weights(), strict=True):
            _append(found, Segment(first, _lowest_terms(weights)))
        if self.exhausted == "redistribute" and any(limits := self._limits(rows or {})):
            return _stopping(found, limits, sequences)
        return found

    def _limits(self, rows: Mapping[str, int | None]) -> list[int | None]:
        """The most sequences that may be read of each source."""
        limits: list[int | None] = []
        for name, source in self.sources.items():
            size = rows.get(name)
            known = source.max_epochs is not None and size is not None
            limits.append(int(Fraction(repr(source.max_epochs)) * size) if known and size else None)
        return limits

    def expected(self, sequences: int, rows: Mapping[str, int | None]) -> dict[str, Fraction]:
        """How many of a run's sequences come of each source; what is read differs by less than one at any time.

        Args:
            sequences: of the whole run.
            rows: sequences in one epoch of each source, None where not known.

        Raises:
            UserError: a source would be read more often than its `max_epochs`.
        """
        shares = expected(self.segments(rows, sequences), sequences)
        found = dict(zip(self.sources, shares, strict=True))
        for (name, share), limit in zip(found.items(), self._limits(rows), strict=True):
            if limit is not None and share > limit:
                most, size = self.sources[name].max_epochs, rows[name]
                assert size
                raise UserError(
                    f"mix.sources.{name}.max_epochs={most:g}: the run would read it {float(share / size):.3f} times"
                    f" ({size * self.context:,} tokens each); allowed are a smaller weight, a smaller trainer.tokens,"
                    " more epochs, or mix.exhausted=redistribute, which gives the rest to the other sources"
                )
        return found


def expected(segments: Sequence[Segment], sequences: int) -> list[Fraction]:
    """Each source's exact share of the first `sequences` sequences; together they are all."""
    found = [Fraction(0)] * len(segments[0].weights)
    for segment, after in zip(segments, [*segments[1:], None], strict=True):
        end = sequences if after is None else min(sequences, after.first)
        if end > segment.first:
            for source, weight in enumerate(segment.weights):
                found[source] += Fraction((end - segment.first) * weight, segment.period)
    return found


def _lowest_terms(weights: Sequence[Fraction | int]) -> tuple[int, ...]:
    """Integers in the same proportion."""
    scale = math.lcm(*(Fraction(weight).denominator for weight in weights))
    whole = [int(weight * scale) for weight in weights]
    divisor = math.gcd(*whole) or 1
    return tuple(weight // divisor for weight in whole)


def _append(segments: list[Segment], segment: Segment) -> None:
    """Of two that begin with the same sequence the last one counts; one that changes nothing is none."""
    if segments and segments[-1].first == segment.first:
        segments.pop()
    if not segments or segments[-1].weights != segment.weights:
        segments.append(segment)


def _stopping(segments: Sequence[Segment], limits: Sequence[int | None], sequences: int | None) -> list[Segment]:
    """The segments with a source's weight 0 from where its share reaches its limit."""
    found: list[Segment] = []
    reached, stopped = [Fraction(0)] * len(limits), set[int]()
    for segment, after in zip(segments, [*segments[1:], None], strict=True):
        first, end = segment.first, None if after is None else after.first
        while end is None or first < end:
            left = _lowest_terms([0 if s in stopped else weight for s, weight in enumerate(segment.weights)])
            if not any(left):
                if sequences is None or first < sequences:
                    raise UserError(
                        f"mix.sources.*.max_epochs: all sources are read up after {first:,} sequences, before the run"
                        " ends; allowed are more epochs or a smaller trainer.tokens"
                    )
                return found
            _append(found, Segment(first, left))
            period = sum(left)
            full = {
                source: first + math.floor((limit - reached[source]) * period / left[source])
                for source, limit in enumerate(limits)
                if limit is not None and left[source]
            }
            stop = min([*full.values(), *([] if end is None else [end])], default=None)
            if stop is None:
                return found
            for source, weight in enumerate(left):
                reached[source] += Fraction((stop - first) * weight, period)
            stopped |= {source for source, when in full.items() if when == stop}
            first = stop
    return found
