"""Records of runs: the store must be there at the start; a later failure never stops a run, nothing is lost."""
