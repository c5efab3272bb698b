"""memlab: see, measure and learn how virtual machines share a host's memory, on the real kernel."""
