"""Arenas, segments, tables, catalog and snapshots: where rows live."""
