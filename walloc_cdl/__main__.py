"""`python -m walloc_cdl` runs the `cdl` command, for environments where its script is not on the path."""

from walloc_cdl.cli import main

if __name__ == "__main__":
    main()
