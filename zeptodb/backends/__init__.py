"""Backends run physical operators on one kind of device."""
