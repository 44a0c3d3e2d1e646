"""Formats of ClickHouse, out of Arrow tables and into them; whole columns at a time."""
