"""Attention through DRAM: bytes and bandwidth at the pins."""
