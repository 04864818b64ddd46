"""The files that one stage hands to the next. How they are made is not this room's business."""
