"""Makes the Python that is brought to devices without one: fetched, verified, trimmed, reproducible."""
