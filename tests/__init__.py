"""All tests, and what they share."""

import sys

sys.dont_write_bytecode = False  # programs that tests start, and other workers, read what is compiled here
