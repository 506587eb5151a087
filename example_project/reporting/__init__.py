"""Reports, on request or by a schedule."""
