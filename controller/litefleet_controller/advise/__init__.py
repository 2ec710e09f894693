"""Advice on variants: the fewest files that a fleet needs, and the gain and risk of other options."""
