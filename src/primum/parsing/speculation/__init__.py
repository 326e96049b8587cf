"""Speculative decoding without a model inside: drafts, proposers, one scored tree, and the walk."""
