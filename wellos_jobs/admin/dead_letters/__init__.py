"""Dead letters: the list, the page of one, and failures grouped by fault."""
