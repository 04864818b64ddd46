"""Data sets to choose from, one file each, named as `data.dataset` names it; docs/extending.md says how to add one.

Each file has `make(data: DataParams) -> Made` and `HOME_PAGE`, a URL or an empty text. Only stage download depends on
these files, and only on the chosen one.
"""
