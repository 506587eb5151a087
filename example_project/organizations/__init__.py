"""Organizations: whom everything belongs to."""
