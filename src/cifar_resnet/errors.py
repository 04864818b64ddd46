"""The one exception that is shown to people as a single line instead of a traceback."""


class UserError(Exception):
    """Something that the user can fix; the message names the value, what is allowed and what to do."""
