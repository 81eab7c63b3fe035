"""The pytest plugin of `loopai.testing`; pytest loads it through its entry point."""
