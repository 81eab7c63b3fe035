"""Integrations, one package a framework; nothing here is imported by `import loopai`."""
