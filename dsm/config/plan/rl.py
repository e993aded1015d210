"""The plan of reinforcement learning: who is asked what, what an exploration costs by phase, memory by model."""

from __future__ import annotations

from fractions import Fraction

from dsm.config.algorithm import GAEConfig
from dsm.config.estimate import ModelShape
from dsm.config.parallel import Layout
from dsm.config.plan.disk import source_row, tokenizer_ids, tokenizer_row
from dsm.config.plan.model import model_rows
from dsm.config.plan.table import Rows, duration, si, size, tokens
from dsm.config.plan.training import (
    CPU_RATE,
    Budget,
    disk_rows,
    kinds_of,
    layout_of,
    memory_sections,
    rhythm_rows,
    step_rows,
)
from dsm.config.rl import RLConfig

_SOURCES = {
    "policy": "the policy as it is (online)",
    "start": "the policy as it was at the start (offline)",
    "store": "a folder of stage=rollouts (offline)",
    "data": "the data: their own solutions",
}


def rl_sections(config: RLConfig) -> dict[str, Rows]:
    """Prompts, explorations, steps, cost by phase, memory, disk."""
    ids = tokenizer_ids(config.tokenizer_path)
    shape, model = model_rows(config, ids)
    budget, layout = _budget(config), layout_of(config)
    sections: dict[str, Rows] = {
        "Prompts": [*_prompt_rows(config), tokenizer_row(config.tokenizer_path, ids)],
        "An exploration": _exploration_rows(config),
        "Steps": step_rows(config, budget, layout),
        "Model": model,
    }
    seconds = None
    if shape is not None:
        sections["Cost of a step, at most"], seconds = _cost_rows(config, shape, layout)
    whole = None if seconds is None or budget.steps is None else seconds * budget.steps
    if whole is not None:
        sections["Steps"].append(("time, at most", f"{duration(whole)} at the rate below"))
    sections["Steps"] += rhythm_rows(config, budget, whole)
    if shape is not None:
        sections |= memory_sections(config, shape, budget, layout)
        sections["Beside it, on each device"] = _memory_rows(config, shape, layout)
        sections["Disk"] = disk_rows(config, shape, layout)
    return sections


def _budget(config: RLConfig) -> Budget:
    known = config.trainer.epochs is None
    steps = config.steps_for(0) if known else None
    return Budget(
        context=config.context,
        per_step=Fraction(config.samples_per_step),
        steps=steps,
        sequences=None if steps is None else steps * config.samples_per_step,
        exact=False,
        unknown=f"follow from the prompts: {config.trainer.epochs or 0:g} passes over them",
    )


def _prompt_rows(config: RLConfig) -> Rows:
    if config.prompts is None:
        return [source_row("rollouts", str(config.rollout.store))]
    rows: Rows = []
    for name, source in config.prompts.sources.items():
        passes = "" if source.weight == 1 else f"{source.weight:g} passes an epoch"
        rows.append(source_row(f"source {name}", source.path, passes))
    if (difficulty := config.prompts.difficulty) is not None:
        text = f"pass rate {difficulty.min:g} to {difficulty.max:g} by {difficulty.path}"
        rows.append(("difficulty", text))
    curriculum = config.curriculum
    if curriculum.min_pass_rate > 0 or curriculum.max_pass_rate < 1:
        text = f"asked again while the last pass rate is {curriculum.min_pass_rate:g} to {curriculum.max_pass_rate:g}"
        rows.append(("curriculum", text))
    return rows


def _exploration_rows(config: RLConfig) -> Rows:
    rollout, trainer, algorithm = config.rollout, config.trainer, config.algorithm
    group = 1 if rollout.source == "data" else rollout.group_size
    limit = f"{rollout.max_new_tokens:,} new tokens each at most"
    drawn = f"temperature {rollout.temperature:g}, top-p {rollout.top_p:g}"
    rows: Rows = [
        (
            "samples",
            f"{trainer.prompts_per_step:,} prompts x {group:,} = {trainer.prompts_per_step * group:,}, {limit}",
        ),
        ("written by", f"{_SOURCES[rollout.source]}, {drawn}" + (", with programs" if rollout.tools != "none" else "")),
        ("reward", ", ".join(_part(config, name) for name in config.reward.parts)),
        ("algorithm", f"{algorithm.name}: advantage {algorithm.advantage.name}, policy term {algorithm.policy.name}"),
        ("", _kl(config)),
        ("updates", f"{trainer.updates:,} on each exploration"),
    ]
    if algorithm.saturated == "refill":
        text = f"prompts whose answers tell nothing are replaced, in {config.curriculum.refill_rounds} draws at most"
        rows.append(("refill", text))
    return rows


def _part(config: RLConfig, name: str) -> str:
    part = config.reward.parts[name]
    gate = "" if part.gate is None else f" if {part.gate}"
    return f"{part.weight:g} {name} ({part.name}){gate}"


def _kl(config: RLConfig) -> str:
    kl = config.algorithm.kl
    if kl.coef == 0:
        return "no KL penalty" + ("; the reference is in the policy term" if "reference" in _needs(config) else "")
    return f"KL {kl.coef:g} ({kl.estimator}) in the {kl.place}, to the start"


def _needs(config: RLConfig) -> frozenset[str]:
    return frozenset(config.algorithm.needs)


def _passes(config: RLConfig) -> dict[str, int]:
    """Forward passes over an exploration before its updates, by what makes them."""
    needs, found = _needs(config), {}
    if config.old_logprobs:
        found["policy"] = 1
    found |= {name: 1 for need, name in (("reference", "reference"), ("values", "critic")) if need in needs}
    found |= {name: 1 for name, part in config.reward.parts.items() if part.name == "reward_model"}
    return found


def _cost_rows(config: RLConfig, shape: ModelShape, layout: Layout) -> tuple[Rows, float | None]:
    """Operations and seconds of the phases of a step, every prompt and answer as long as allowed."""
    answer, context, trainer = config.rollout.max_new_tokens, config.context, config.trainer
    prompt, samples = context - answer, config.samples_per_step
    backward = shape.flops_per_token((context + 1) / 2)  # forward and backward; a third of it is forward
    phases: dict[str, float] = {}
    if config.rollout.source in ("policy", "start"):
        once = trainer.prompts_per_step * prompt * shape.flops_per_token((prompt + 1) / 2) / 3
        phases["generate"] = once + samples * answer * shape.flops_per_token(prompt + (answer + 1) / 2) / 3
    passes = _passes(config)
    if passes:
        phases["score"] = len(passes) * samples * context * backward / 3
    models = 2 if isinstance(config.algorithm.advantage, GAEConfig) else 1
    phases["update"] = models * trainer.updates * samples * context * backward
    phases = {name: flops / trainer.updates for name, flops in phases.items()}
    kinds, rates = kinds_of(config, shape), {"cuda": config.plan.rate, "cpu": CPU_RATE}
    shown = {"cuda": f"{layout.size:,} {config.plan.device}", "cpu": "two CPU cores"}
    rows: Rows = []
    for name, flops in phases.items():
        times = ", ".join(f"{duration(flops / rates[kind] / layout.size)} on {shown[kind]}" for kind in kinds)
        count = f"{samples * (answer if name == 'generate' else context) / trainer.updates:,.0f} tokens"
        by = f" by {', '.join(passes)}" if name == "score" else ""
        rows.append((name, f"{count}{by}, {si(flops)}FLOP, {times}"))
    rate = f"{config.plan.mfu:.0%} of {config.plan.tflops:g} TFLOP/s" if "cuda" in kinds else "0.1 TFLOP/s"
    rows.append(
        ("", f"at {rate}; generation runs at the rate of memory, not of arithmetic, unless many decode together")
    )
    total = sum(phases.values())
    return rows, total / rates[kinds[0]] / layout.size if len(kinds) == 1 else None


def _memory_rows(config: RLConfig, shape: ModelShape, layout: Layout) -> Rows:
    """What stands beside the policy and its optimiser, and when."""
    kind = kinds_of(config, shape)[0]
    precision = config.precision(kind)
    weights = 4 * shape.parameters // layout.shard // layout.tensor
    width = 2 if config.engine.dtype == "bfloat16" or (config.engine.dtype == "auto" and precision == "bf16") else 4
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * width
    answers = -(-config.samples_per_step // layout.size)
    rows: Rows = []
    if "reference" in _needs(config):
        where = "on the host; here while it scores" if config.reference.placement == "cpu" else "all the time"
        rows.append(("reference", f"{size(weights)}: fp32 weights, {where}"))
    if "values" in _needs(config):
        rows.append(("critic", f"{size(16 * shape.parameters)}: weights, gradients, AdamW state, all the time"))
    for name, part in config.reward.parts.items():
        if part.name == "reward_model":
            rows.append((f"reward model {name}", f"its own weights, all the time: {part.path}"))
    if config.rollout.source in ("policy", "start"):
        between = "freed between explorations" if config.rollout.source == "policy" else "all the time"
        rows.append(("engine", f"{size(width * shape.parameters)}: whole weights, {between}"))
        everything = cache * answers * config.context
        text = f"{size(cache)} a token; {size(everything)} for all {answers:,} answers of this device at full length"
        rows.append(
            ("keys and values", f"{text} ({tokens(answers * config.context)} tokens); engine.cache_gb limits them")
        )
    return rows or [("nothing", "no reference, no critic, no engine")]
