"""`python -m dicomnet.cli` is the `dicomnet` command."""

from dicomnet.cli import main

if __name__ == "__main__":
    main()
