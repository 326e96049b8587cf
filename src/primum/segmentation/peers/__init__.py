"""Older ways of cutting pictures into regions, to measure ours against in one harness."""
