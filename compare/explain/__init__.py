"""The command `explain`: where a user's own two models first differ, and why."""
