"""The stages of a build, the store and the ledger between them."""
