"""Jobs and their attempts: the lists, the page of one job, and what can be done there."""
