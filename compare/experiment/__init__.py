"""What both sides are given, made once and hashed: examples, batch schedule and initial weights."""
