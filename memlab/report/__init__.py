"""Reports from a recording: tables and one offline HTML file. Never reaches the kernel."""
