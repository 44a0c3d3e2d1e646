"""Random statements over random tables: every engine against DuckDB on tables of its own."""
