"""Base against adapter on held-out code: paired figures, intervals over files, a verdict."""
