"""Figures of the DRAM controller at the pins: ``python -m tb.bench.dram``."""
