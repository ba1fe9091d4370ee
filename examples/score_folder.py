"""From a folder of images to a decision, in Python: cells (`# %%`) for a notebook, or the whole as a script.

python examples/score_folder.py IMAGES GOOD "cat,dog,truck" [MODEL]

IMAGES is any folder, GOOD one of images that belong (fifty or more, no labels), then the class names.
"""

# %% What to look at
import sys
from collections import Counter
from pathlib import Path

from lsncli import Detector

if len(sys.argv) < 4:
    sys.exit(__doc__)
images, good, classes = sys.argv[1:4]
model = sys.argv[4] if len(sys.argv) > 4 else "ViT-B-16-quickgelu:openai"

# %% Start from class names alone. Nothing has been calibrated yet, and the detector says so.
detector = Detector.zero_shot(classes.split(","), model=model)
print(f"{len(detector.classes)} classes, gamma {detector.threshold.gamma:.6f}, {detector.threshold.basis}")

# %% Set the threshold with images that belong: 95 % of them are kept, and of new ones a rate in the interval.
detector = detector.calibrate(good, target_tpr=0.95)
threshold = detector.threshold
print(f"gamma {threshold.gamma:.6f} {threshold.basis}: {threshold.tpr_low:.1%} to {threshold.tpr_high:.1%}")

# %% Score everything: `stream` gives results batch by batch, `score` the same as a list.
results = list(detector.stream(images))
print(Counter("unreadable" if one.error else "OOD" if one.is_ood else one.predicted for one in results))

# %% The images that belong least
scored = sorted((one.score, one.path or "") for one in results if one.score is not None)
for score, path in scored[:10]:
    print(f"{score:.6f}  {Path(path).name}")

# %% PIL images and arrays are scored as files are, and the detector can be kept for `lsn score`.
detector.save("detector.safetensors")
