"""Data on its way to the model: reading rows, formatting conversations, packing sequences."""
