"""The one update step, the Lightning modules built on it, and everything that keeps a run alive and exact."""
