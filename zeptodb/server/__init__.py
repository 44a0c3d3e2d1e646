"""The HTTP face of one Pipeline: ClickHouse's protocol, Arrow in and out, keys and roles, health and metrics."""
