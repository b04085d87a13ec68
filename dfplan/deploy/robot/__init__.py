"""What the arm is: mapping, limits, body, readings, transport."""
