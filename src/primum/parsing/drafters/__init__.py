"""Where drafts come from: layout and OCR, PDF text layers, other programs' results."""
