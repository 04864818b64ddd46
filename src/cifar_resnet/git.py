"""Questions to Git, all of which may stay without an answer."""

import subprocess


def git(*arguments: str) -> str | None:
    """What git prints, None if it fails or there is no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
