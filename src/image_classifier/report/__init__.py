"""Where the network looked, and the pages and the model card that show it."""
