"""What must hold for long, with real processes: `tox -e reliability` runs each script, the test suite a short form of each."""
