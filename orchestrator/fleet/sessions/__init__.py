"""One provider session: its events, usage, steered texts, transcripts, and the processes behind it."""
