"""The progressive format: a bit of every key, then whole keys of a few, then values of fewer."""
