"""`python -m controlgen` runs the command line."""

from controlgen.cli import main

if __name__ == "__main__":
    main()
