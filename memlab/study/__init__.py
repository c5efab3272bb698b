"""What many runs say together: the same lab under several policies, run against run."""
