"""Equal and nearly equal texts: exact digests, MinHash candidates, clusters of verified pairs."""
