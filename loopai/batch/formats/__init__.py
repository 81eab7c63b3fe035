"""Where rows are read from and outcomes written to: CSV, JSON, Parquet, Excel."""
