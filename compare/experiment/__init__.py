"""What both sides train on, made once and hashed: examples, batch schedule and initial weights."""
