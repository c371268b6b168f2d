"""The delivery modes, one file each; none imports another."""
