"""`quickstart.scale`: one number that makes the same pipeline larger, by two resolvers that YAML may use anywhere.

${scaled:24_000}                     the number times the scale: a whole one rounded and at least 1
${scaled:15_360,512}                 rounded to a multiple of 512, at least one of them
"${by_scale:{1: tiny, 8: mini}}"     the value of the largest key that the scale has reached, else of the smallest
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from dsm.config.base import Schema
from dsm.errors import UserError

Number = int | float


class QuickstartConfig(Schema):
    """What a pipeline grows by."""

    scale: float = Field(
        gt=0, description="1 is what two CPU cores do in minutes; read by ${scaled:N} and ${by_scale:{..}}"
    )


def scaled(value: Number, multiple: int = 1, *, _root_: DictConfig) -> Number:
    """The number times quickstart.scale; whole numbers stay whole, and a `multiple` of something if so asked.

    Raises:
        UserError: what is given is no number.
    """
    if not _is_number(value) or not isinstance(multiple, int) or isinstance(multiple, bool) or multiple < 1:
        raise UserError(
            "scaled takes a number, and what it shall be a multiple of: ${scaled:24000} or ${scaled:24000,8}"
        )
    product = value * _scale(_root_)
    if isinstance(value, float) and multiple == 1:
        return product
    return max(round(product / multiple), 1 if value > 0 else 0) * multiple


def by_scale(choices: Mapping[Number, Any], *, _root_: DictConfig) -> Any:
    """The value of the largest key that is no more than quickstart.scale; of the smallest where all are more.

    Raises:
        UserError: the choices are no mapping from numbers.
    """
    if not isinstance(choices, Mapping) or not choices or not all(map(_is_number, choices)):
        raise UserError('by_scale takes scales with their values: "${by_scale:{1: tiny, 8: mini}}"')
    scale = _scale(_root_)
    return choices[max((key for key in choices if key <= scale), default=min(choices))]


def _scale(root: DictConfig) -> Number:
    scale = OmegaConf.select(root, "quickstart.scale")
    if scale is None:
        raise UserError("there is no quickstart.scale here; it belongs to stage=pipeline")
    if not _is_number(scale) or not 0 < scale < math.inf:
        raise UserError(f"quickstart.scale={scale}: must be a number greater than 0")
    return scale


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


OmegaConf.register_new_resolver("scaled", scaled, replace=True)
OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
