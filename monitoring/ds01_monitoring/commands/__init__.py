"""One module per topic; ds01_monitoring.cli has the table of commands."""
