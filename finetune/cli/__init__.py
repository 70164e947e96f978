"""The console script: groups of commands, mounted in main.py; this package alone may import every other."""
