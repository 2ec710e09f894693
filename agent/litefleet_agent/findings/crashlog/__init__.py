"""Decodes the output of a crashed program into ranked findings."""
