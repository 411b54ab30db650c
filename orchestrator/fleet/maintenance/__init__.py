"""Background loops (scheduler, rescuer, cleaner, durable waits), and the steps before a daemon serves."""
