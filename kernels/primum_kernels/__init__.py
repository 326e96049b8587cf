"""Kernels: one operation a file, reference first."""
