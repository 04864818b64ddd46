"""Image classification, in rooms: docs/architecture.md draws them, each `__init__.py` says what its room is for."""
