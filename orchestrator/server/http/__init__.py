"""The HTTP API: JSON over a unix socket and, if asked for, a loopback port."""
