"""What every room uses: errors, files, settings, progress, timing, validation."""
