"""Training as a process of its own, and how what it brings is judged: hold-out, shadow, back-test of a cycle."""
