"""OmniDocBench, end to end: a page's Markdown against what annotators saw on the page."""
