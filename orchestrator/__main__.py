"""The command `fleet`: dispatches on its first argument before importing anything, so that a door stays light."""

import sys


def main() -> int:
    """Run the door for `fleet mcp`, the daemon for `fleet daemon`, and the command line for everything else."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first == "mcp":
        from orchestrator import door

        return door.main(sys.argv[2:])
    if first == "daemon":
        from orchestrator import daemon

        return daemon.main(sys.argv[2:])
    from orchestrator import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
