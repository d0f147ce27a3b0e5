"""Performance: measured points, their table and their picture (``make bench``)."""
