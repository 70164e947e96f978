"""The rule pack, as TOML: secrets.toml."""
