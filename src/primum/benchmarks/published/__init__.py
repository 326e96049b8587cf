"""Figures that others have published, as facts to be checked."""
