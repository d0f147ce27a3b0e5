"""Mutation testing: faults in the emitted Verilog, each of which a named test must find."""
