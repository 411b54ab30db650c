"""One module per verb of the fleet."""
