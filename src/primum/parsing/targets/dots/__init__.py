"""dots.ocr for transformers, without remote code and without flash-attn."""
