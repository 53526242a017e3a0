"""What a model's name in a sweep file means, and fetching it."""
