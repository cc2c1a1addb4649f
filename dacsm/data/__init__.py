"""Images: raw data, shards and their index, random views, seeds."""
