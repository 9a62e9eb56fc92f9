"""The known differences between the frameworks and their defects: names, texts and how each shows."""
