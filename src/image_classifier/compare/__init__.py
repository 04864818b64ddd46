"""Runs compared with each other, image by image and seed by seed."""
