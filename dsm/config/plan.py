"""`mode=plan`: what a run would do and cost, by its settings and what lies on the disk; no torch, no weights, no data.

Numbers that only the data can tell (steps when the budget is in epochs, how full sequences get) are named as such.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsm.config.base import HUB_PREFIX
from dsm.config.estimate import KNOWN_ARCHITECTURES, ModelShape
from dsm.config.evaluation import EvalConfig
from dsm.config.report import ReportStageConfig
from dsm.config.run import ModelRunConfig, RunConfig, SFTConfig, TokenizerConfig
from dsm.config.runs import newest_checkpoint, run_path
from dsm.config.schedules import milestones
from dsm.errors import UserError

RATES = {"400 TFLOP/s, about 40 % of an H100": 400e12, "0.1 TFLOP/s, two CPU cores": 0.1e12}
"""Sustained rates for which the plan states a time."""
DEVICES = {"cuda": ("gpu", "a GPU"), "cpu": ("cpu", "a CPU")}

Rows = list[tuple[str, str]]


def plan_text(config: RunConfig) -> str:
    """The plan of a run as aligned lines.

    Raises:
        UserError: what lies on the disk contradicts the settings (too small a vocabulary), or is no JSON.
    """
    sections: dict[str, Rows] = {f"Plan of stage={config.stage}": _folder_rows(config)}
    if isinstance(config, TokenizerConfig):
        sections["Data"] = [_source_row(f"source {name}", source.path) for name, source in config.data.sources.items()]
        limit = config.data.max_bytes
        sections["Data"].append(("read", "all of it" if limit is None else f"the first {_bytes(limit)} of text"))
        learnt = config.tokenizer
        text = f"at most {learnt.vocab_size:,} ids; pairs seen fewer than {learnt.min_frequency} times are not merged"
        sections["Tokenizer"] = [("vocabulary", text)]
    if isinstance(config, SFTConfig):
        sections |= _sft_sections(config)
    if isinstance(config, EvalConfig):
        sections |= _evaluation_sections(config)
    if isinstance(config, ReportStageConfig):
        sections["Evaluations"] = [(config.label(name), path) for name, path in config.evaluations.items()]
    width = max(len(label) for rows in sections.values() for label, _ in rows)
    lines = []
    for title, rows in sections.items():
        lines += ["", title, *(f"  {label:<{width}}  {text}" for label, text in rows)]
    return "\n".join(lines[1:])


def _folder_rows(config: RunConfig) -> Rows:
    path = run_path(config)
    newest = newest_checkpoint(path / "checkpoints")
    if config.resume not in ("auto", "never"):
        state = f"goes on from {newest or config.resume}"
    elif config.resume == "never":
        state = "new" if not path.exists() else "exists, so a new one beside it"
    elif (path / "metrics.json").is_file():
        state = "finished before: its results would be returned; resume=never makes it anew"
    else:
        state = f"goes on from {newest.name}" if newest else "from the start"
    return [("run folder", f"{path} ({state})")]


def _sft_sections(config: SFTConfig) -> dict[str, Rows]:
    data, budget, ranks = config.data, config.trainer, int(os.environ.get("WORLD_SIZE", "1"))
    ids = _tokenizer_ids(config.tokenizer_path)
    shape, model = _model(config, ids)

    rows: Rows = []
    for name, source in data.sources.items():
        passes = "" if source.weight == 1 else f"{source.weight:g} passes an epoch"
        rows.append(_source_row(f"source {name}", source.path, passes))
    rows += [_source_row(f"held out, {name}", source.path) for name, source in data.validation.sources.items()]
    if not data.validation.sources:
        share = f"{data.validation.fraction:.1%} of the questions, at most {data.validation.max_examples:,} examples"
        rows.append(("held out", share if data.validation.fraction else "nothing"))
    found = f"{ids:,} ids" if ids is not None else "not read before the run"
    rows.append(("tokenizer", f"{config.tokenizer_path} ({found})"))
    sections = {"Data": rows}

    positions = budget.sequences_per_step * data.context
    steps = budget.steps or (math.ceil(budget.tokens / positions) if budget.tokens else None)
    sections["Steps"] = _step_rows(config, steps, positions, ranks)

    sections["Model"] = model
    if shape is None:
        return sections
    flops = shape.flops_per_token((data.context + 1) / 2)
    shortest = f"{_si(shape.flops_per_token(1))}FLOP for the shortest documents"
    model.append(("compute", f"{_si(flops)}FLOP a token where documents fill the context, {shortest}"))
    if steps is not None:
        total = flops * positions * steps
        times = "; ".join(f"{_duration(total / rate / ranks)} at {text}" for text, rate in RATES.items())
        model.append(("", f"{_si(total)}FLOP in all, at most"))
        model.append(("time, at most", f"{times}{' a rank' if ranks > 1 else ''}"))
    sections |= _memory_sections(config, shape, ranks)
    weights, kept = 4 * shape.parameters, config.checkpoint
    sections["Disk"] = [
        (
            "a checkpoint",
            f"{_bytes(3 * weights)}: weights, AdamW state; every {kept.every:,} steps, {kept.keep} are kept",
        ),
        ("export", f"{_bytes(weights)}: fp32 safetensors"),
    ]
    return sections


def _evaluation_sections(config: EvalConfig) -> dict[str, Rows]:
    _, model = _model(config, _tokenizer_ids(config.tokenizer_path))
    asked, sampling = config.prompting, config.sampling
    how = (
        f"sampled at temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
        if sampling.temperature
        else "greedy"
    )
    answers: Rows = [
        ("prompts", asked if asked != "auto" else "zero_shot if the tokenizer has a chat template, else few_shot")
    ]
    answers.append(("answers", f"{sampling.n:,} an item, {how}"))
    answers.append(("grader", config.grader.name))
    sections: dict[str, Rows] = {"Model": model, "Answers": answers}
    for name, benchmark in config.benchmarks.items():
        path = benchmark.data.path or (
            f"{config.data_root}/{benchmark.data.file}"
            if config.data_root and benchmark.data.file
            else benchmark.data.hub
        )
        rows: Rows = [_source_row("data", path or "NOT GIVEN")]
        kind = {"generate": "an answer is written", "choices": "choices are scored", "code": "tests are run"}[
            benchmark.kind
        ]
        rows.append(("kind", kind))
        rows.append(("few-shot", f"{benchmark.few_shot.shots} exemplars, tool {benchmark.few_shot.tool}"))
        rows.append(("zero-shot", f"tool {benchmark.zero_shot.tool}"))
        limit = sampling.max_new_tokens or benchmark.max_new_tokens
        rows.append(("new tokens", f"{limit:,} at most an answer"))
        rows += [("reference", f"{who}: {100 * value:.1f}") for who, value in benchmark.reference.items()]
        sections[benchmark.title or name] = rows
    return sections


def _step_rows(config: SFTConfig, steps: int | None, positions: int, ranks: int) -> Rows:
    budget, schedule, peak = config.trainer, config.scheduler, config.optim.lr
    count = budget.sequences_per_step
    rows: Rows = [("a step", f"{count:,} packed sequences x {config.data.context:,} = {positions:,} tokens at most")]
    if ranks > 1:
        rows.append(("ranks", f"{ranks}, each with {-(-count // ranks):,} of a step's sequences at most"))
    if steps is None:
        rows.append(("steps", f"follow from the data: {budget.epochs:g} epochs"))
        rates = f"peak {peak:g}, warm-up {schedule.warmup_steps:,} steps"
    else:
        rows.append(("steps", f"{steps:,}: {steps * count:,} sequences, {steps * positions:,} tokens at most"))
        points = milestones(schedule, peak, steps)
        rates = ", ".join(f"{rate:.3g} at step {step:,}" for step, rate in points)
        if len({rate for _, rate in points}) == 1:
            rates = f"{peak:g} throughout"
    rows.append(("learning rate", f"{schedule.name}, {rates}"))
    rows.append(("loss", f"normalised by {config.loss.normalisation}"))
    return rows


def _memory_sections(config: SFTConfig, shape: ModelShape, ranks: int) -> dict[str, Rows]:
    """Memory of one device, a column for each kind of device that the settings leave open."""
    asked = config.parallel.accelerator
    kinds = [kind for kind in DEVICES if asked in ("auto", kind)]
    columns: dict[str, dict[str, str]] = {}
    for kind in kinds:
        device, called = DEVICES[kind]
        precision = config.trainer.precision
        if precision == "auto":
            precision = "bf16" if kind == "cuda" else "fp32"
        limit = config.tokens_per_microbatch(kind)
        share = -(-config.trainer.sequences_per_step // ranks)
        sequences = min(max(1, limit // config.data.context), share)
        parts = shape.memory(
            device, precision, sequences * config.data.context, checkpointing=config.model.activation_checkpointing != "none"
        )
        columns[f"{called}, {precision}"] = {
            "micro-batch": f"{sequences * config.data.context:,} tokens",
            "micro-batches a step": f"{-(-share // sequences):,}",
            **{part: _bytes(size) for part, size in parts.items()},
            "together, about": _bytes(sum(parts.values())),
        }
    labels = list(dict.fromkeys(label for column in columns.values() for label in column))
    width = max(16, *(len(title) for title in columns))
    rows: Rows = [("", "".join(f"{title:>{width}}" for title in columns))]
    for label in labels:
        rows.append((label, "".join(f"{column.get(label, '-'):>{width}}" for column in columns.values())))
    return {"Memory of one device (without its context and small temporaries)": rows}


def _model(config: ModelRunConfig, ids: int | None) -> tuple[ModelShape | None, Rows]:
    """The model's shape, if it can be known, and what to say of it."""
    model = config.model
    padded = None if ids is None else -(-ids // model.pad_vocab_multiple) * model.pad_vocab_multiple
    if model.path is None:
        architecture, settings = str(model.architecture), dict(model.config)
        rows, key, source = model.vocab_size or padded, "model.vocab_size", f"new {architecture}"
        missing = "known once the tokenizer is there, or with model.vocab_size"
    else:
        settings = _read_json(model.path, "config.json", "model.path") or {}
        architecture, rows = str(settings.get("model_type", "")), settings.get("vocab_size")
        if model.resize_embeddings and ids is not None and rows is not None and ids > rows:
            rows = padded
        key, source = f"model.path={model.path}: vocab_size", f"{model.path} {architecture}".rstrip()
        missing = "known once the model is there"
    if rows is None:
        return None, [("model", source), ("parameters", missing)]
    if ids is not None and ids > rows:
        raise UserError(f"{key}={rows}: the tokenizer has {ids} ids; at least that many are needed")
    shape = ModelShape.from_config(architecture, settings, rows)
    if shape is None:
        known = ", ".join(KNOWN_ARCHITECTURES)
        return None, [("model", source), ("parameters", f"not estimated for this architecture (known: {known})")]
    text = (
        f"{source}: {shape.layers} layers, hidden {shape.hidden:,}, inner {shape.inner:,}, {shape.heads} heads"
        f" ({shape.kv_heads} for keys and values), vocabulary {shape.vocab:,}, {'tied' if shape.tied else 'untied'}"
    )
    counts = [_count(number) for number in (shape.parameters, shape.body, shape.embeddings)]
    return shape, [("model", text), ("parameters", "{}: {} in the body, {} in embedding and head".format(*counts))]


def _tokenizer_ids(path: str) -> int | None:
    """Number of ids of a tokenizer on the disk; None where there is none (yet)."""
    backend = _read_json(path, "tokenizer.json", "tokenizer.path")
    if backend is None or "vocab" not in backend.get("model", {}):
        return None
    vocab = backend["model"]["vocab"]
    ids = set(vocab.values()) if isinstance(vocab, dict) else set(range(len(vocab)))
    return len(ids | {token["id"] for token in backend.get("added_tokens", [])})


def _read_json(folder: str, name: str, key: str) -> dict[str, Any] | None:
    if folder.startswith(HUB_PREFIX):
        return None
    file = Path(folder).expanduser() / name
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={folder}: {name} cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{key}={folder}: {name} holds no JSON object")
    return dict(content)


def _source_row(name: str, path: str, more: str = "") -> tuple[str, str]:
    """A data source and how much of it lies there."""
    found = Path(path).expanduser()
    if path.startswith(HUB_PREFIX):
        size = "from the hub"
    elif found.is_file():
        size = _bytes(found.stat().st_size)
    elif found.is_dir():
        files = [file for file in found.rglob("*") if file.is_file()]
        size = f"{len(files):,} files, {_bytes(sum(file.stat().st_size for file in files))}"
    else:
        size = "NOT THERE YET"
    return name, f"{path} ({', '.join(filter(None, [size, more]))})"


def _count(number: int) -> str:
    for size, suffix in ((10**9, "B"), (10**6, "M")):
        if number >= size:
            return f"{number / size:.2f}{suffix}"
    return f"{number:,}"


def _si(number: float) -> str:
    """Three digits and a prefix, to stand before a unit."""
    for power, prefix in enumerate("YZEPTGMk"):
        factor = 1000.0 ** (8 - power)
        if number >= factor:
            return f"{number / factor:.3g} {prefix}"
    return f"{number:.3g} "


def _bytes(number: float) -> str:
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}" if number < 999.5 * factor else f"{number / factor:.0f} {unit}"
    return f"{number:.0f} bytes"


def _duration(seconds: float) -> str:
    for length, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
