"""Verification bench: tests of every hardware unit, device models and the integration tests."""
