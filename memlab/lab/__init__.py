"""Labs: the file, the running session, the timeline. The only place where rooms meet."""
