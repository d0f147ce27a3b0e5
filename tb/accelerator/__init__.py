"""Attention through MMU, arbiter and DRAM controller, against the golden twin."""
