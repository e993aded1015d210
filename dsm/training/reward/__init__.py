"""Reward models: their data, step and validation (stage=reward), and the labels of steps (stage=label)."""
