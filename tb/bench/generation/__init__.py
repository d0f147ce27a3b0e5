"""What it costs to write the caches."""
