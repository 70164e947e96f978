"""Who may do what on the endpoint: keys, their scopes, and the adapters that they see."""
