"""What the plans of all training stages share: steps, cost, memory, disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fractions import Fraction

from dsm.config.estimate import ModelShape
from dsm.config.fitting import changes_that_fit, largest_microbatch
from dsm.config.memory import CHECKPOINTINGS, PARTS, Work, needed, peak
from dsm.config.parallel import Layout
from dsm.config.plan.table import Rows, columns, duration, si, size, tokens
from dsm.config.run import TrainingConfig
from dsm.config.schedules import milestones

CPU_RATE = 0.1e12
"""Operations a second that two CPU cores sustain."""
LARGE = 10**9
"""Parameters from which on nobody means to train on a CPU."""


@dataclass(frozen=True)
class Budget:
    """A run in numbers.

    Attributes:
        context: tokens of a sequence at most.
        per_step: sequences of a step, over all ranks.
        steps: None where only the data can tell.
        sequences: of the whole run; None likewise.
        exact: is every sequence full?
        unknown: what to say where the steps are not known.
    """

    context: int
    per_step: Fraction
    steps: int | None
    sequences: int | None
    exact: bool
    unknown: str = ""

    @property
    def tokens(self) -> int | None:
        """Of the whole run, at most where sequences are not full."""
        return None if self.sequences is None else self.sequences * self.context

    @property
    def at_most(self) -> str:
        """What to say behind a count of tokens."""
        return "" if self.exact else " at most"


def training_sections(
    config: TrainingConfig, budget: Budget, shape: ModelShape | None, model: Rows, more: Rows | None = None
) -> dict[str, Rows]:
    """Steps, model and time, memory of one device, disk.

    Args:
        shape: None where it is not known; then only the steps are.
        model: what is said of the model.
        more: what a stage has to say beside its steps.
    """
    layout = layout_of(config)
    sections = {"Steps": step_rows(config, budget, layout), "Model": list(model)}
    seconds = None
    if shape is not None:
        cost, seconds = cost_rows(config, shape, budget, layout)
        sections["Model"] += cost
    sections["Steps"] += rhythm_rows(config, budget, seconds) + (more or [])
    if shape is not None:
        sections |= memory_sections(config, shape, budget, layout)
        sections["Disk"] = disk_rows(config, shape, layout)
    return sections


def layout_of(config: TrainingConfig) -> Layout:
    """The mesh: as many ranks as `plan.gpus` says, else the launcher, else what the settings multiply to.

    Raises:
        UserError: the settings do not make that number.
    """
    launched = os.environ.get("WORLD_SIZE")
    return config.parallel.layout(config.plan.gpus or (int(launched) if launched else None))


def kinds_of(config: TrainingConfig, shape: ModelShape | None) -> list[str]:
    """'cuda' and 'cpu', as far as the settings leave them open; no CPU for a billion parameters unless it is asked."""
    asked = config.parallel.accelerator
    if asked != "auto":
        return [asked]
    return ["cuda"] if shape is not None and shape.parameters >= LARGE else ["cuda", "cpu"]


def step_rows(config: TrainingConfig, budget: Budget, layout: Layout) -> Rows:
    """A step, how many there are, learning rates, what happens between steps."""
    per_step, share = budget.per_step, -(-budget.per_step // layout.data_size)
    one_step = float(per_step * budget.context)
    if budget.exact:
        turns = f"{per_step.numerator}" if per_step.denominator == 1 else f"{float(per_step):,.1f}"
        text = f"{one_step:,.0f} tokens: {turns} sequences of {budget.context:,}, full"
        if per_step.denominator != 1:
            text = f"{one_step:,.0f} tokens: {turns} sequences of {budget.context:,} on average, exact over the run"
    else:
        text = f"{per_step.numerator:,} packed sequences x {budget.context:,} = {one_step:,.0f} tokens at most"
    rows: Rows = [("a step", text)]
    if layout.size > 1:
        rows.append(("ranks", f"{layout.size:,}, each with {share:,} of a step's sequences at most"))
        busy = float(per_step / layout.data_size / share)
        rows.append(
            (
                "layout",
                str(layout) + (f"; {busy:.1%} of what the fullest rank computes, on average" if busy < 1 else ""),
            )
        )
    if budget.steps is not None and budget.sequences is not None and budget.tokens is not None:
        text = f"{budget.steps:,}: {budget.sequences:,} sequences, {budget.tokens:,} tokens{budget.at_most}"
        rows.append(("steps", text))
    else:
        rows.append(("steps", budget.unknown))
    rates = _rates(config, budget)
    rows.append(("learning rate", f"{config.scheduler.name}, {rates[0]}"))
    rows += [("", rate) for rate in rates[1:]]
    rows.append(("loss", f"normalised by {config.loss.normalisation}"))
    return rows


def _rates(config: TrainingConfig, budget: Budget) -> list[str]:
    """The rates worth telling; a line each where they stand at counts of tokens."""
    peak_rate = config.optim.lr
    if budget.steps is None:
        return [f"peak {peak_rate:g}, warm-up {config.scheduler.warmup_steps:,} steps"]
    points = milestones(config.scheduler, peak_rate, budget.steps)
    if len({rate for _, rate in points}) == 1:
        return [f"{peak_rate:g} throughout"]
    if not budget.exact:
        return [", ".join(f"{rate:.3g} at step {step:,}" for step, rate in points)]
    one_step = float(budget.per_step * budget.context)
    return [f"{rate:.3g} at step {step:,}, after {tokens(step * one_step)} tokens" for step, rate in points]


def rhythm_rows(config: TrainingConfig, budget: Budget, seconds: float | None) -> Rows:
    """How often a run validates and can be picked up again."""
    one_step = float(budget.per_step * budget.context)

    def every(steps: int) -> str:
        time = "" if seconds is None or budget.steps is None else f", {duration(seconds / budget.steps * steps)}"
        return f"every {steps:,} steps ({tokens(steps * one_step)} tokens{time})"

    rows: Rows = []
    if config.trainer.validate_every is not None:
        rows.append(("validation", f"{every(config.trainer.validate_every)} and at the end"))
    rows.append(("checkpoints", f"{every(config.checkpoint.every)}, {config.checkpoint.keep} are kept"))
    return rows


def cost_rows(config: TrainingConfig, shape: ModelShape, budget: Budget, layout: Layout) -> tuple[Rows, float | None]:
    """Operations and time; also the seconds, None where steps or kind of device are not known."""
    flops, machine = shape.flops_per_token((budget.context + 1) / 2), config.plan
    shortest = f"{si(shape.flops_per_token(1))}FLOP for the shortest documents"
    rows: Rows = [
        ("compute", f"{si(flops)}FLOP a token where documents fill the context, attention counted; {shortest}")
    ]
    if budget.tokens is None:
        return rows, None
    total = flops * budget.tokens
    seconds, slow = total / machine.rate / layout.size, total / CPU_RATE / layout.size
    kinds, times = kinds_of(config, shape), []
    if "cuda" in kinds:
        rate = f"{machine.mfu:.0%} of {machine.tflops:g} TFLOP/s"
        text = f"{duration(seconds)} on {layout.size:,} {machine.device} at {rate}"
        if seconds * layout.size > 86400:
            text += f" ({seconds * layout.size / 3600:,.0f} GPU hours)"
        times.append(text)
    if "cpu" in kinds:
        ranks = " a rank" if layout.size > 1 else ""
        times.append(f"{duration(slow)} at 0.1 TFLOP/s, two CPU cores{ranks}")
    rows.append(("", f"{si(total)}FLOP in all, at most"))
    rows.append(("time, at most", "; ".join(times)))
    return rows, seconds if kinds == ["cuda"] else slow if kinds == ["cpu"] else None


def work_of(config: TrainingConfig, shape: ModelShape, budget: Budget, layout: Layout, kind: str) -> Work:
    """What one device computes."""
    share = int(-(-budget.per_step // layout.data_size))
    sequences = min(max(1, config.tokens_per_microbatch(kind) // budget.context), share)
    return Work(
        shape=shape,
        layout=layout,
        device="gpu" if kind == "cuda" else "cpu",
        precision=config.precision(kind),
        context=budget.context,
        sequences=sequences,
        share=share,
        checkpointing=config.model.activation_checkpointing,
        reshard_after_forward=config.parallel.reshard_after_forward,
        reduce_gradients=config.parallel.reduce_gradients,
    )


def memory_sections(config: TrainingConfig, shape: ModelShape, budget: Budget, layout: Layout) -> dict[str, Rows]:
    """Memory of one device by parts, a column for each kind of device; what fits, and what would."""
    machine = config.plan
    room = f"in {size(machine.room)} of {size(machine.memory_gb * 1e9)}"
    labels = ("micro-batch", "micro-batches a step", *PARTS, "together, about", room, "peaks")
    titles, cells, sections = [], [], {}
    for kind in kinds_of(config, shape):
        work = work_of(config, shape, budget, layout, kind)
        moment, parts = peak(work)
        together = sum(parts.values())
        column = {part: size(number) for part, number in parts.items()}
        column |= {"micro-batch": f"{work.tokens:,} tokens", "micro-batches a step": f"{work.microbatches:,}"}
        column |= {"together, about": size(together), "peaks": moment}
        if kind == "cuda":
            verdict = "fits" if together <= machine.room else "DOES NOT FIT"
            column[room] = f"{verdict} ({together / machine.room:.0%})"
            sections = _choices(config, work)
        titles.append(f"{machine.device if kind == 'cuda' else 'a CPU'}, {work.precision}")
        cells.append(column)
    table = {
        label: [column.get(label, "-") for column in cells]
        for label in labels
        if any(label in column for column in cells)
    }
    return {"Memory of one device at its peak": columns(titles, table)} | sections


def _choices(config: TrainingConfig, work: Work) -> dict[str, Rows]:
    """What else would fit: each way of checkpointing; where the settings do not fit, settings that do."""
    machine = config.plan
    rows: dict[str, list[str]] = {}
    for mode in CHECKPOINTINGS:
        other = replace(work, checkpointing=mode)
        most = largest_microbatch(other, machine.room)
        everything = f", all {work.share:,} sequences of a step" if most == work.share else ""
        rows[f"checkpointing {mode}"] = [
            size(needed(other)),
            "none" if most is None else f"{most * work.context:,} tokens{everything}",
            "as set" if mode == work.checkpointing else "",
        ]
    titles = ["peak", "largest micro-batch that fits", ""]
    sections = {f"Choices on one {machine.device}": columns(titles, rows)}
    if needed(work) > machine.room:
        sections["What to change so that it fits, the least dear first"] = [
            (f"{size(change.bytes)}, {change.ranks:,} ranks", " ".join(change.overrides))
            for change in changes_that_fit(work, machine.room)
        ] or [("none found", "a smaller model, a shorter context or a larger device is needed")]
    return sections


def disk_rows(config: TrainingConfig, shape: ModelShape, layout: Layout) -> Rows:
    """What checkpoints and the export take."""
    weights, kept = 4 * shape.parameters, config.checkpoint
    parts = layout.shard * layout.tensor
    each = f", {size(3 * weights / parts)} by each of {parts:,} ranks" if parts > 1 else ""
    text = f"{size(3 * weights)}: weights, AdamW state{each}; every {kept.every:,} steps, {kept.keep} are kept"
    rows: Rows = [("a checkpoint", text)]
    if kept.asynchronous:
        rows.append(("", f"{size(3 * weights / parts)} of host memory a rank while it is written beside the run"))
    return [*rows, ("export", f"{size(weights)}: fp32 safetensors")]
