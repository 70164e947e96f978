"""Programs that run in the jail, under the interpreter of the code under test: the runners put them there as files."""
