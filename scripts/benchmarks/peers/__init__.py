"""What others would step or forecast with, each a process of its own under the same load."""
