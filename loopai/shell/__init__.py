"""What commands of `loopai` and of `manage.py` share: options, signals, exit codes, what they say."""
