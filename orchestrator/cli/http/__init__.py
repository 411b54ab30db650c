"""The command line's HTTP client: requests to the daemon, its answers and its errors."""
