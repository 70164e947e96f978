"""What mining must know of languages other than Python: one file of facts each."""
