"""The resident service: validated inference over a Unix socket, workers that may crash, releases that change without a gap."""
