"""The known differences between the frameworks and their defects: names and texts."""
