"""Speculative decoding with Hugging Face models: the tokens of `generate` in fewer forwards."""
