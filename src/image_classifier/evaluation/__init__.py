"""How good predictions are, and whether a difference is more than chance. Pure functions of arrays."""
