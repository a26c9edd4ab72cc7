"""The web monitor: what those who watch a cluster are shown, in a browser or a terminal."""
