"""Runs one after another: `stage=pipeline`."""
