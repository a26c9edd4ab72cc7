# a package of old text that only a remote function imports
