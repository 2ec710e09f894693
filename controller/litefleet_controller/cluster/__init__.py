"""Device sessions as tasks on a Dask cluster: the workers hold the connections, the coordinator decides and writes the state."""
