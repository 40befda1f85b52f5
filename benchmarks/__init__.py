"""What is measured: speed, memory, and what symmetry and slicing gain."""
