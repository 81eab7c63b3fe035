"""The server's endpoints by area. Each module has `add(app)`."""
