"""Networks to choose from, one file each, named as `model.network` names it; docs/extending.md says how to add one.

Stages depend on the chosen network's file alone. This file computes nothing.
"""
