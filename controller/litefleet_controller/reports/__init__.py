"""Reports: pure functions that turn a run, a plan or a rollout into text; the live progress; the metrics server."""
