"""Loops that run beside the turns: timers, rescue, cleaning, durable waits; and what a daemon does first."""
