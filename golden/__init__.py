"""Torch golden model: the reference that the generated hardware is checked against."""
