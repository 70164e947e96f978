"""Code that nobody has read is run here and nowhere else: the jail, and the runners that call tests in it.

On the floor, because mining and evaluation both run tests and are blind to each other: docs/decisions/010.
"""
