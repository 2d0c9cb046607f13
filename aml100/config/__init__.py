"""What the operator intends: typed models of config/*.json and their loading."""
