"""What data_pipelines, finetune and serving agree on. Standard library and pydantic only."""
