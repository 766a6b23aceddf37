"""Sessions: what each command means."""
