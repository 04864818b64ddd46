"""Questions to Git, all of which may stay without an answer."""

import re
import subprocess

# DVC's experiments are references: the commit they start from, and a name. Others are for its own bookkeeping.
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(\S+) (\w+)")

# What a user may have set, and what would change an answer: signatures among commits, new files left out.
SETTINGS = ("-c", "log.showSignature=false", "-c", "status.showUntrackedFiles=normal")


def git(*arguments: str) -> str | None:
    """What git prints, None if it fails or there is no git; what is no UTF-8, as in old commits, is replaced."""
    command = ["git", *SETTINGS, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def dvc_experiments() -> dict[str, str]:
    """The DVC experiments of all commits: the commit of each, by name."""
    return dict(EXPERIMENT.findall(git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps") or ""))
