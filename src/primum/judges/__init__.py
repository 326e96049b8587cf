"""Who scores answers, and how often they are wrong."""
