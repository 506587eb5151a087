"""What the tests share: real servers, processes, a browser, and jobs for them to run."""
