"""`python -m dispycos`: the same command as `dispycos`, for children that must not depend on PATH."""

from dispycos.cli.main import main

if __name__ == "__main__":
    main()
