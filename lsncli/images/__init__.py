"""From paths to batches of pixels: ``sources`` lists, ``names`` names classes, ``decode`` reads one image,
``loader`` reads many with bounded memory."""
