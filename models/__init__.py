"""Models made of tinygrad_lite modules."""
