"""The page at GET /playground: base and adapters side by side. Its files are sent as they lie here."""
