"""The HTTP gateway: JSON over a socket and a loopback port."""
