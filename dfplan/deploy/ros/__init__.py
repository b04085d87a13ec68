"""ROS 1 and 2: messages, buses, transport."""
