"""Enough of PromQL to know which series and labels an expression reads and which labels its result has."""
