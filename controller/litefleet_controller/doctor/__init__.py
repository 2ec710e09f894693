"""`litefleet doctor`: describes files, devices, pairs of them, logs and this machine, and reports what fails and why."""
