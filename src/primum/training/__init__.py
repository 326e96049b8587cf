"""What the families share around Lightning."""
