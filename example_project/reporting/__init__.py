"""Reports: asked for, or made by a schedule."""
