"""Causal language models: one wrapper over Hugging Face `transformers`, its packed attention, building and export."""
