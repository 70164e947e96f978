"""Tasks that tests grade, mined from a repository: functions whose bodies its own tests can tell from stubs."""
