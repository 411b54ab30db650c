"""The command line: one module per group of commands; talks to the daemon over HTTP on its unix socket."""
