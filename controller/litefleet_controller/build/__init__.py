"""Builds what devices receive: conversions, goldens, runtimes, releases."""
