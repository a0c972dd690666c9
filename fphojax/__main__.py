"""`python -m fphojax` is the command line."""

from fphojax.app.cli import main

if __name__ == "__main__":
    main()
