"""Provider processes and mirrored transcripts."""
