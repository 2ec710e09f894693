"""The device inventory: which devices there are and how to reach them."""
