"""Child processes that end with their session: the shim, the tiers around it, and the reaper of leftovers."""
