"""From paths to batches of pixels: ``sources`` lists (by ``folder``, ``patterns``, ``listfile`` and ``tar``),
``names`` names classes (from files by ``namefile``), ``decode`` reads one image (``modes``: pixels to RGB;
what may take long by its ``structure`` in a process of ``watched``), ``loader`` many with bounded memory."""
