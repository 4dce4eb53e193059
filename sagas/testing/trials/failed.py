"""How a trial fails."""


class Failed(AssertionError):
    """A trial that failed; its text is the report."""
