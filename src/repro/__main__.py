"""The command ``repro``, also as ``python -m repro``; without the packages that it needs it says so in one line."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from repro.cli import main as command

        command()
    except ModuleNotFoundError as error:
        if (error.name or "repro").startswith("repro"):
            raise
        sys.exit(f"repro: the command line needs {error.name}: pip install 'repro[book]'")


if __name__ == "__main__":
    main()
