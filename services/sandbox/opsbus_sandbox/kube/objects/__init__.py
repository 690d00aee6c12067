"""What the kinds of objects mean: their defaults, and what makes them invalid."""
