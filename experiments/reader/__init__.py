"""Reading digits in photographs. `page` has every step in order, and names the module of each."""
