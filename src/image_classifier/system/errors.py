"""Errors that are shown to people as single lines, without a traceback and without secrets."""

import re


class UserError(Exception):
    """Something that the user can fix; the message names the value, what is allowed and what to do."""


def masked(text: str) -> str:
    """A text in which *** replaces the passwords, tokens and keys of addresses."""
    text = re.sub(r"//([^\s/@:]*):\S*@", r"//\1:***@", text)
    return re.sub(r"(?i)(\w*(?:pass|pwd|token|key|secret|sig|auth|cred)\w*=)[^\s&;]*", r"\1***", text)
