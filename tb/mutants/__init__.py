"""Mutation testing: faults, each of which a named test must find.

Those of the core are in its emitted Verilog (`tb.mutants.catalogue`), those of the components
around it in their source (`tb.mutants.components`).
"""
