"""Numerics that know tensors and nothing of stages, models or data."""
