"""The one exception that is shown to people as a single line instead of a traceback."""


class UserError(Exception):
    """Something the user can mend; the message names the value, what is allowed and what to do."""
