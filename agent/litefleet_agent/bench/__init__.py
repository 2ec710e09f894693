"""The bench: measures how fast a release runs on this device, how much memory it needs, and how both change over time.

Values: `results`.  Pure: `plan`, `statistics`, `timeseries`, `trends`, `report_text`.  `worker_main` runs in the measured
processes, `worker_handle` is their other end; `system_load` reads sensors; `latency` and `throughput` measure; `run` carries
out one bench for a session or for the command line.
"""
