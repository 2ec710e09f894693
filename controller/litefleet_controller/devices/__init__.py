"""One device: connection, agent session, delivery, steps and outcome."""
