"""Differentiation rules: pure NumPy functions from arrays to `(output, vjp)`; they know neither Tensor nor tape."""
