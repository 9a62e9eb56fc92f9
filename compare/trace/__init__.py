"""What one runner did, on disk."""
