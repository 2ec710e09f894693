"""Readers of file formats: ELF, .npz, .nb. They read bytes within bounds and import nothing else of the agent."""
