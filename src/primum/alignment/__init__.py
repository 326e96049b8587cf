"""Safety-aligned fine-tuning of medical language models."""
