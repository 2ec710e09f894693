"""Golden inputs and outputs: made by a reference engine, or given by the user."""
