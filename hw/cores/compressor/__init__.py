"""Closes windows of a compressed cache (docs/contracts.md, section 9)."""
