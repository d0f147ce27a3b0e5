"""What a cache of constant size saves, and what choosing its victims costs."""
