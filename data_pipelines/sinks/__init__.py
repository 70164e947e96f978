"""Where rows go: Parquet shards and the manifest."""
