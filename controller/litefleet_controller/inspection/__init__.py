"""Reads .nb files and model folders and reports what they are: the command `inspect`."""
