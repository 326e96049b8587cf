"""Long jobs over many files: what is done stands in an index, and shards share the rest."""
