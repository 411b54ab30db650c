"""Background loops: scheduler, rescuer, cleaner, durable waits; and what a daemon does first."""
