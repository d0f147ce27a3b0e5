"""Simulated-side models (SystemVerilog) and the cocotb modules that drive a simulation."""
