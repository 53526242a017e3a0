"""What secateur writes of a pruned model and reads back: full size, sliced, compact."""
