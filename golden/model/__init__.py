"""The small trained language model that supplies real keys, values and queries."""
