"""What a sweep file may say, and reading it."""
