"""The processes that run models for the resident service, and the daemon's handles of them."""
