"""Speed against peers, in turn in one run."""
