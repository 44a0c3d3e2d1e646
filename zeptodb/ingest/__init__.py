"""From what users have (arrays, frames, single ticks) to batches that a table can append."""
