"""What the commands of `loopai` and `manage.py` share: options, signals, exit codes, messages."""
