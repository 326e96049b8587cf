"""Released document models: how each is asked, what it writes, and one port of our own."""
