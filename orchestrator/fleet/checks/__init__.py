"""What must hold before a turn counts as complete, and how Fleet checks it."""
