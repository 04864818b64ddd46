"""Secrets in addresses, hidden before an address is shown."""

import re


def masked(text: str) -> str:
    """A text in which *** replaces the passwords, tokens and keys of addresses."""
    text = re.sub(r"//([^\s/@:]*):\S*@", r"//\1:***@", text)
    return re.sub(r"(?i)(\w*(?:pass|pwd|token|key|secret|sig|auth|cred)\w*=)[^\s&;]*", r"\1***", text)
