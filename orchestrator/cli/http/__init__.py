"""How the command line talks with the daemon."""
