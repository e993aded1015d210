"""The plan of a model: its shape, where it can be known before a weight is read."""

from __future__ import annotations

from dsm.config.estimate import KNOWN_ARCHITECTURES, ModelShape
from dsm.config.plan.disk import read_json
from dsm.config.plan.table import Rows, count
from dsm.config.run import ModelRunConfig
from dsm.errors import UserError


def model_rows(config: ModelRunConfig, ids: int | None) -> tuple[ModelShape | None, Rows]:
    """The model's shape, if it can be known, and what to say of it.

    Args:
        ids: of the tokenizer; None where it is not there yet.

    Raises:
        UserError: the embedding has fewer rows than the tokenizer has ids.
    """
    model = config.model
    padded = None if ids is None else -(-ids // model.pad_vocab_multiple) * model.pad_vocab_multiple
    if model.path is None:
        architecture, settings = str(model.architecture), dict(model.config)
        rows, key, source = model.vocab_size or padded, "model.vocab_size", f"new {architecture}"
        missing = "known once the tokenizer is there, or with model.vocab_size"
    else:
        settings = read_json(model.path, "config.json", "model.path") or {}
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
    counts = [count(number) for number in (shape.parameters, shape.body, shape.embeddings)]
    return shape, [("model", text), ("parameters", "{}: {} in the body, {} in embedding and head".format(*counts))]
