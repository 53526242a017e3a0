"""What the methods share: their kinds, the driver's loop, blocks, masks, targets, statistics."""
