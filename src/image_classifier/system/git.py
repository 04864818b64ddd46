"""Asks Git; an answer may be None."""

import re
import subprocess

# DVC keeps an experiment as the reference refs/exps/START/NAME, where START is the commit that it starts from. Other
# references are for DVC's own use.
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(\S+) (\w+)")

# These override settings of the user that change answers: signatures among commits, new files left out.
SETTINGS = ("-c", "log.showSignature=false", "-c", "status.showUntrackedFiles=normal")


def git(*arguments: str) -> str | None:
    """What git prints; None if git fails or is missing. Bytes that are not UTF-8, as in old commits, are replaced."""
    command = ["git", *SETTINGS, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def dvc_experiments() -> dict[str, str]:
    """The commit of every DVC experiment, by the name of the experiment."""
    return dict(EXPERIMENT.findall(git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps") or ""))
