"""The plan of pre-training: what a run reads of each source, steps in tokens, cost."""

from __future__ import annotations

from pathlib import Path

from dsm.config.plan.disk import ABSENT, tokenizer_ids, tokenizer_row
from dsm.config.plan.model import model_rows
from dsm.config.plan.table import Rows, columns, tokens
from dsm.config.plan.training import Budget, training_sections
from dsm.config.pretrain import PretrainConfig


def pretrain_sections(config: PretrainConfig) -> dict[str, Rows]:
    """The mix, then what every training stage has.

    Raises:
        UserError: a source would be read more often than it may.
    """
    ids = tokenizer_ids(config.tokenizer_path)
    shape, model = model_rows(config, ids)
    sections = _mix_sections(config) | {"Data": [*_data_rows(config), tokenizer_row(config.tokenizer_path, ids)]}
    return sections | training_sections(config, budget_of(config), shape, model, _guard_rows(config))


def budget_of(config: PretrainConfig) -> Budget:
    """The run in numbers."""
    return Budget(
        context=config.context,
        per_step=config.sequences_per_step,
        steps=config.steps,
        sequences=config.sequences,
        exact=config.mix.packing == "cut",
    )


def _mix_sections(config: PretrainConfig) -> dict[str, Rows]:
    """A line a source: its part of the run, and how often that passes over it."""
    mix, context = config.mix, config.context
    sizes = {name: mix.size(name) for name in mix.sources}
    rows = {name: None if size is None else size // context for name, size in sizes.items()}
    expected = mix.expected(config.sequences, rows)
    table, absent = {}, False
    for name, sequences in expected.items():
        size, epoch, limit = sizes[name], rows[name], mix.sources[name].max_epochs
        passes = f"{float(sequences / epoch):.2f}" if epoch else "?"
        there = (Path(mix.store(name)).expanduser()).is_dir()
        absent = absent or not there
        table[name] = [
            f"{100 * float(sequences / config.sequences):.4g} %",
            tokens(float(sequences) * context),
            f"{round(sequences):,}",
            ("" if there or size is None else "stated ") + ("unknown" if size is None else tokens(size)),
            passes + (f" of {limit:g}" if limit is not None else ""),
            f"{mix.store(name)}{'' if there else f' ({ABSENT})'}",
        ]
    titles = ["share", "tokens read", "sequences", "store", "epochs", "where"]
    found: dict[str, Rows] = {"Mix over the whole run": columns(titles, table)}
    segments = mix.segments(rows, config.sequences)
    if len(segments) > 1:
        names = list(mix.sources)
        found["Weights, from token"] = [
            (
                tokens(segment.first * context),
                ", ".join(
                    f"{name} {100 * weight / segment.period:.4g} %"
                    for name, weight in zip(names, segment.weights, strict=True)
                ),
            )
            for segment in segments
            if segment.first < config.sequences
        ]
    return found


def _data_rows(config: PretrainConfig) -> Rows:
    mix = config.mix
    how = {
        "cut": f"documents end to end, cut at every {mix.context:,} tokens",
        "best_fit": f"whole documents packed into at most {mix.context:,} tokens; counts of sequences assume full ones",
    }[mix.packing]
    borders = "starts anew with each document" if mix.mask_documents else "crosses documents"
    rows = [("packing", f"{how}; attention {borders}")]
    if mix.validation.sequences:
        own = "the documents that each store holds out"
        named = ", ".join(f"{name} {source.path}" for name, source in mix.validation.sources.items())
        text = f"{named}; else {own}" if named else own
        rows.append(("held out", f"{text}, {mix.validation.sequences:,} sequences of each at most"))
    return rows


def _guard_rows(config: PretrainConfig) -> Rows:
    spikes, asked = config.spikes, config.evaluation
    rows = [("spikes", f"{spikes.policy}, against the {spikes.window:,} steps before")]
    if asked is not None:
        times = -(-config.trainer.tokens // asked.every_tokens)
        names = ", ".join(config.benchmarks)
        rows.append(("benchmarks", f"every {tokens(asked.every_tokens)} tokens, {times:,} times: {names}"))
    return rows
