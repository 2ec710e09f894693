"""Releases on the device's disk: store, activation, lease, journal, trust, integrity."""
