"""Pure functions on tensors: what a method of the paper's paradigm adds to the one update rule (Eq. 5)."""
