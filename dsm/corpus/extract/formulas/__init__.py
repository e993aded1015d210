"""Formulas in the notations that pages use (MathML, AsciiMath, addresses of images), each rewritten as LaTeX."""
