"""The database itself: opening, group commits, reads, streams, backups, migrations, and detection of lost history."""
