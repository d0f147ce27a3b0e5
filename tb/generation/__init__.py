"""The bench of cores that write their caches."""
