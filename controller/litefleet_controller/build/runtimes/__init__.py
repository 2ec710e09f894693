"""Runtime bundles: the Paddle-Lite and numpy that a device's own Python needs, as one zip."""
