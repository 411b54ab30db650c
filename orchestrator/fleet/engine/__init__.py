"""The unit of work that commits every change, and the credentials that daemons hold in memory."""
