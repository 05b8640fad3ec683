"""The allocation exporter: tells Prometheus who holds which GPU or MIG slice of a machine."""
