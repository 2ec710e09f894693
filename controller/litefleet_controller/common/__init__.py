"""Errors, checked JSON values, files, text and subprocesses.  Every part of the controller may import them."""
