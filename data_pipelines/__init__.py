"""Git repositories to a dataset: rows that teach, each with its provenance. Reaches finetune's floor and terminal only."""
