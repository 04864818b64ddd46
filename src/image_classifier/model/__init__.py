"""A network as it runs: how it is made, computed, saved and loaded. How it learns is in `training`."""
