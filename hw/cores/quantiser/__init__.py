"""The affine quantiser of the writing side (docs/contracts.md, section 8)."""
