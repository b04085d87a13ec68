"""`python -m dfplan.cli`."""

from dfplan.cli import main

if __name__ == "__main__":
    main()
