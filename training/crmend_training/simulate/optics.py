"""The PSFs of a frame with all that is needed to draw point sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crmend_training.simulate._kernels import add_stamps, add_wings
from crmend_training.simulate._light import add_spikes
from crmend_training.simulate.psf import STAMP_HALF, Psf

_WING_RADIUS = 1500


@dataclass(frozen=True)
class Optics:
    """PSFs on a square grid of field positions, with their stamps and wings.

    Attributes
    ----------
    psfs : list of Psf
        n_side² of them, row by row from low y.
    stamps : (n, phases, phases, size, size) float32 array
    wing_profile : (radius,) float64 array
        Surface brightness of the far wings at whole pixels [1/px²].
    shear : (n, 2) float64 array
    """

    psfs: list[Psf]
    stamps: NDArray[np.float32]
    wing_profile: NDArray[np.float64]
    shear: NDArray[np.float64]

    @classmethod
    def from_psfs(cls, psfs: list[Psf]) -> Optics:
        """Render the stamps and wings of the PSFs."""
        return cls(
            psfs=psfs,
            stamps=np.stack([psf.stamps() for psf in psfs]),
            wing_profile=psfs[0].wings(np.arange(_WING_RADIUS + 2, dtype=np.float64)),
            shear=np.array([[psf.g1, psf.g2] for psf in psfs]),
        )

    def nearest(
        self, x: NDArray[np.float64], y: NDArray[np.float64], shape: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Return the index of the PSF nearest to each pixel position."""
        n_side = round(len(self.psfs) ** 0.5)
        column = np.clip((x / shape[1] * n_side).astype(np.int64), 0, n_side - 1)
        row = np.clip((y / shape[0] * n_side).astype(np.int64), 0, n_side - 1)
        return row * n_side + column

    def reach(self, flux: NDArray[np.float64], floor: float) -> NDArray[np.int64]:
        """Return the radius [px] at which sources drop below a surface brightness."""
        falling = np.minimum.accumulate(self.wing_profile)[::-1]
        contrast = np.maximum(flux / floor, 1.0)
        wings = falling.size - np.searchsorted(falling, 1.0 / contrast)
        # The core has no analytic profile: more than six sigma of a Gaussian of its width.
        core = (5.0 + 3.0 * np.log10(contrast)) * max(1.0, self.psfs[0].fwhm / 3.0)
        return np.maximum(wings, core.astype(np.int64))

    def add_points(
        self,
        image: NDArray[np.float32],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        flux: NDArray[np.float64],
        floor: float,
    ) -> None:
        """Add point sources: stamps for all, wings and spikes for the bright, in place.

        Parameters
        ----------
        image : (ny, nx) float32 array
        x, y, flux : (m,) float64 arrays
        floor : float
            Surface brightness down to which they are drawn.
        """
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
        flux = np.ascontiguousarray(flux)
        which = self.nearest(x, y, image.shape)
        reach = self.reach(flux, floor)
        add_stamps(image, self.stamps, which, x, y, flux, np.clip(reach, 4, STAMP_HALF))
        far = reach > STAMP_HALF
        add_wings(
            image,
            self.wing_profile,
            which[far],
            self.shear,
            x[far],
            y[far],
            flux[far],
            STAMP_HALF,
            np.minimum(reach[far], _WING_RADIUS),
        )
        if self.psfs[0].spikes:
            self._add_spikes(image, x, y, flux, floor)

    def _add_spikes(self, image, x, y, flux, floor):
        """Add spikes outside the stamps, as far as they exceed the floor, in place."""
        psf = self.psfs[0]
        peak = 2.0 * psf.spike_share / (psf.spikes * np.pi * psf.spike_reach)
        peak /= np.sqrt(2.0 * np.pi) * psf.spike_width
        length = psf.spike_reach * np.sqrt(np.maximum(flux * peak / floor - 1.0, 0.0))
        far = length > STAMP_HALF
        shape = np.array(
            [psf.spikes, psf.spike_share, psf.spike_angle, psf.spike_reach, psf.spike_width]
        )
        outer = np.minimum(length[far], _WING_RADIUS).astype(np.int64)
        add_spikes(image, x[far], y[far], flux[far], shape, STAMP_HALF, outer)
