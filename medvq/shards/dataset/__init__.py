"""A packed dataset on disk: manifest, index, shards, verification and summary."""
