"""One provider session: what it reports, uses and is told, and the processes behind it."""
