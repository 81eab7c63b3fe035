"""The embedded server: `loopai serve` and `LoopaiClient.local()`."""
