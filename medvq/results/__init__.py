"""Tables of finished runs: cells, intervals, differences and output formats."""
