"""What every error of the harness has in common."""


class HarnessError(RuntimeError):
    """A simulation could not be built or run, or failed; the message is fit to show to a user."""
