"""The bench: how fast a release runs on this device, how much memory it takes, and how both change over time.

Pure: `plan`, `samples`, `series`, `pairs`, `throttle`.  `measured` runs in the processes that are measured, `subject` and
`floor` hold their other ends; `machine` looks at sensors; `cold`, `steady`, `versus` and `cells` measure; `run` puts it
together for the session, `command` for whoever is logged in on the device.
"""
