"""The demo: runs jobs of every kind on sample data and checks the results."""
