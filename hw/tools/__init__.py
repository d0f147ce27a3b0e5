"""Command line of the generator: Verilog emission and the area flow."""

#: The generator, as headers and sidecars name it.
GENERATOR = "kvforge"
VERSION = "0.1.0"
