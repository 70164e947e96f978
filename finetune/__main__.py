"""`python -m finetune` is the command `finetune`."""

from finetune.cli.main import main

main()
