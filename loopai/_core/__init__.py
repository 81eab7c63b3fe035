"""The sans-I/O core: operations, one call's flow, retry arithmetic, replies. No I/O, no HTTP library."""
