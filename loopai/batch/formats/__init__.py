"""Input and output formats: CSV, JSON, Parquet, Excel."""
