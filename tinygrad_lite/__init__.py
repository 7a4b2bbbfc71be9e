"""A small autograd framework on NumPy whose gradients are fuzzed, not believed."""
