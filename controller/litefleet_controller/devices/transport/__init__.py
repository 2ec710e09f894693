"""How the controller reaches a device: a small port, and asyncssh behind it."""
