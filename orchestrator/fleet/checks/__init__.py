"""What must hold before a turn counts as complete, and how that is found out."""
