"""Errors, files, text and subprocesses: used everywhere, importing nothing of the controller."""
