"""How other programs do the same work, a module each; `catalog` has their names."""
