"""Command-line tools, and what they share: the check of system packages and progress lines."""
