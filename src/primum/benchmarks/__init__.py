"""Benchmarks, one a file, over one small harness: cases, candidates, results, report."""
