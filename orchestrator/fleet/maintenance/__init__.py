"""What runs beside the work: timers, and the rescue of turns that nobody runs."""
