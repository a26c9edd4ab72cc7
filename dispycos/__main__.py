"""`python -m dispycos`: the same command as `dispycos`, for children that must not depend on PATH."""

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["private"]:
        from dispycos.cli.ahead import main
    else:
        from dispycos.cli.main import main
    main()
