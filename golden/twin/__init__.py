"""The bit-exact integer twin: one module per datapath unit, in torch int64."""
