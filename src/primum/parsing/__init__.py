"""Document parsing: the same output as plain decoding, several times sooner."""
