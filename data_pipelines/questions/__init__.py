"""Questions that a teacher asks and answers about the code, as a stage of the build."""
