"""Tools of a model's: programs that answer, programs that run while it writes, an equation solver, tests of code."""
