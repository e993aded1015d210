"""What was done and found, as one page that needs nothing else."""
