"""From paths to batches of pixels: ``sources`` lists (by ``folder``, ``patterns``, ``listfile`` and ``tar``),
``names`` names classes (from files by ``namefile``), ``decode`` reads one image (``modes``: pixels to RGB),
``loader`` many with bounded memory."""
