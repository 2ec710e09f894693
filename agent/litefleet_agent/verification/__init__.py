"""Runs a model in a child process and compares its outputs with the goldens."""
