"""Puts the program onto a machine for good, and takes it off again: code, units, configuration, user."""
