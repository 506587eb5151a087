"""The demo: runs the main job on sample data and shows what came of it."""
