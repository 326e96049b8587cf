"""Drafted decoding: what it saves, and whether its output is the same."""
