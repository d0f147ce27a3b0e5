"""Whole decode steps at the DRAM pins."""
