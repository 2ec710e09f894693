"""The command `bench`: the choice, the session with each device, and the figures."""
