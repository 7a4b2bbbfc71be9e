"""Reading digits in photographs, in the order of the steps: load, find, split, normalise, order, draw."""
