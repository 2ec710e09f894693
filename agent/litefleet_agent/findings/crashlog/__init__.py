"""Decodes what a crashed program printed into ranked findings."""
