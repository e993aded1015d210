"""Generation engines behind one protocol: tokens in, tokens and their log-probabilities out."""
