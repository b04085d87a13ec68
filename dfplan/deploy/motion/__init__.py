"""How the arm may move: chunks as motion, safety filter, stops."""
