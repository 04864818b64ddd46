"""Secrets in addresses, hidden before an address is shown."""

import re


def masked(text: str) -> str:
    """An address, or a text with some, without the passwords, tokens and keys in it."""
    text = re.sub(r"//([^\s/@:]*):\S*@", r"//\1:***@", text)
    return re.sub(r"(?i)(\w*(?:pass|pwd|token|key|secret|sig|auth|cred)\w*=)[^\s&;]*", r"\1***", text)
