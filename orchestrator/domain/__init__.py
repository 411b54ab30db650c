"""The fleet's values and rules, pure: no I/O, no clock, no framework."""
