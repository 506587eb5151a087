"""The jobs that a person has asked for."""
