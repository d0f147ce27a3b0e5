"""The integration bench: the emitted attention core on a memory model, against golden data."""
