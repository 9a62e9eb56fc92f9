"""Child processes: how they are started, fed and watched, and what they do."""
