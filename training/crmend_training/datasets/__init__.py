"""Data sets from FITS pairs on disk: a Level 1 exposure and its Level 0 CR truth.

Nothing here knows the simulator, but for `generic_frame` and `zoo_frame`: the pairs may come
from it, from the official simulation or from orbit.  Read in this order: `frames` and `fields`
(pairs in memory, and which of them share a piece of sky), `masked` and `mask_places` (exposures
of any instrument with masks, for detection alone), `compact` and `storage` (the files of a
set), `joining` (several sets as one), `detection` (paper, section 2.1), `inpainting` (2.2),
`science` with `science_files` and `science_rays` (2.3), `loader` (batches ahead of the
network), `harvest` and `multi_exposure` (truth from dark frames and from repeated exposures).

A data set is a folder of ``.npy`` arrays, read through memory maps, beside a ``set.json``:

================ ============================ ===========================================
array            shape, dtype as loaded       content
================ ============================ ===========================================
detect/image     (n, s, s) float32            Level 1 in noise units (background removed)
detect/mask      (n, s, s) bool               True = CR > `Frame.label`; of CSST 1 e- (2.1)
detect/ignore    (n, s, s) bool               True = bad, hot, saturated, NaN or unsure
detect/frame     (n,) int32                   index into ``frames`` of ``set.json``
inpaint/image    (m, 64, 64) float32          CR-free cutouts on sources, noise units
inpaint/frame    (m,) int32                   as above
inpaint/kind     (m,) uint8                   index into `inpainting.KINDS`
inpaint/psf      (m, 7, 4) float64            the frame's PSF, see `inpainting.frame_psf`
inpaint/cr       (k, 64, 64) float32          isolated CRs of Level 1, noise units
inpaint/crmask   (k, 64, 64) bool             their pixels > 1 e-
inpaint/crframe  (k,) int32                   as above
================ ============================ ===========================================

Detection sets are compact on disk: ``detect/image`` as int16 codes on an asinh scale,
``detect/mask`` and ``detect/ignore`` as bits (see `compact`), 2.25 bytes per pixel in all.
``set.json`` holds the format's number, the normalisation, the frames, the field of each, the
coding of each column, the counts and a fingerprint.
"""

from crmend_training.datasets.detection import (
    build_detection_set,
    detection_stamps,
    shown_to_detection,
)
from crmend_training.datasets.frames import (
    DRAWN,
    LABEL_THRESHOLD,
    Frame,
    Pair,
    few_of,
    find_pairs,
    generic_frame,
    load_frame,
    make_frame,
    read_any,
    read_clean,
    read_image,
    read_truth,
    zoo_frame,
)
from crmend_training.datasets.inpainting import (
    CUTOUT,
    build_inpainting_set,
    cosmic_ray_cutouts,
    source_cutouts,
)
from crmend_training.datasets.joining import join_sets
from crmend_training.datasets.loader import prefetch
from crmend_training.datasets.masked import Masked, Reading, find_masked, load_masked, stem_of
from crmend_training.datasets.storage import (
    check_made_with,
    load_column,
    load_info,
    split_frames,
)

__all__ = [
    "CUTOUT",
    "DRAWN",
    "LABEL_THRESHOLD",
    "Frame",
    "Masked",
    "Pair",
    "Reading",
    "build_detection_set",
    "build_inpainting_set",
    "check_made_with",
    "cosmic_ray_cutouts",
    "detection_stamps",
    "few_of",
    "find_masked",
    "find_pairs",
    "generic_frame",
    "join_sets",
    "load_column",
    "load_frame",
    "load_info",
    "load_masked",
    "make_frame",
    "prefetch",
    "read_any",
    "read_clean",
    "read_image",
    "read_truth",
    "shown_to_detection",
    "source_cutouts",
    "split_frames",
    "stem_of",
    "zoo_frame",
]
