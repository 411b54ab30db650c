"""What agents ask before a tool call goes on, and who may answer it."""
