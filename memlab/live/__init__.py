"""Views of a running lab, or of a replay. Never reaches the kernel."""
