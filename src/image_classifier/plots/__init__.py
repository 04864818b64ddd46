"""Plots as PNG files, in one style. What they show is computed elsewhere."""
