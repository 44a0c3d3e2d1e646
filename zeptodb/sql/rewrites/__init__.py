"""Rewrites of a statement that is not native as a whole, so that parts of it are."""
