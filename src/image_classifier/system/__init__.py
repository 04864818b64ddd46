"""This machine: files, locks, Git, progress, errors. Nothing here can change a result, and no stage depends on it."""
