"""Improving a policy by reward: sample, judge, give each token its coefficient, update (section 4 of the paper)."""
