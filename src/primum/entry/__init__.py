"""From a command line to a composed run."""
