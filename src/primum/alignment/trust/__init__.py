"""Clinical Trust Signals: who said what of which training row, and which checkpoint learned it."""
