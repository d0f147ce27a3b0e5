"""Where the scales of value groups lie, measured: ``python -m tb.bench.layouts``."""
