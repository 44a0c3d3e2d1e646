"""SQL over the tables of a Pipeline: natively where that gives DuckDB's answer, else through DuckDB."""

from zeptodb.sql.executor import QueryExecutor

__all__ = ["QueryExecutor"]
