"""Tests of the KV-MMU."""
