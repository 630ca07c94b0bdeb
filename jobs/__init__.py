"""Jobs: the only code that knows Ray, one file a job."""
