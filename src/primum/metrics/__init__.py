"""One torchmetrics Metric a file with its pure function; every score carries n and an interval."""
