"""`litefleet serve`: the dashboard, its HTTP API and metrics, in one server process over one project.

It decides nothing: pages and API call the public Python API and show the state that the commands show.
"""
