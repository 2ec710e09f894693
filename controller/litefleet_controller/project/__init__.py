"""One project: litefleet.yaml with its inventory and state, and runs over its fleet."""
