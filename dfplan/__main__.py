"""`python -m dfplan`, and `torchrun -m dfplan`."""

from dfplan.cli import main

if __name__ == "__main__":
    main()
