"""Values of mail: pure, frozen, without I/O."""
