"""What agents must have answered before a tool call runs, and who may answer."""
