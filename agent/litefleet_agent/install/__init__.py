"""Installs a release bundle on the device itself, without a controller's session."""
