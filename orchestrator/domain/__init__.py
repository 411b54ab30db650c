"""The fleet's values and rules, as pure functions: no I/O, no clock, no framework."""
