"""The unit of work that commits every change, and the credentials that the daemon keeps in memory."""
