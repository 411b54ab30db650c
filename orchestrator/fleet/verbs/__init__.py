"""The verbs of the fleet, one module per verb or group."""
