"""`python -m blackbox_diff`."""

from blackbox_diff.cli import main

if __name__ == "__main__":
    main()
