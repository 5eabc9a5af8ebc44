"""`python -m edge_runtime`, and the script `sonolite`."""

import sys


def main() -> None:
    """Loads the command line and runs it; Ctrl-C stops it while it loads, too."""
    try:
        from edge_runtime.cli import main as command
    except KeyboardInterrupt:
        print("sonolite: stopped", file=sys.stderr)
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
